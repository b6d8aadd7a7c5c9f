package member

import "errors"

// Volume is what lies on a member's volume.
type Volume struct {
	Marker MarkerState
	Data   DataState
	// Seen is what was found, for people.
	Seen string
}

// Examine looks at a volume as the guard does before it starts etcd. An error means
// that it could not be told, never that something is absent.
func Examine(volume, dataDir string, identity Identity) (Volume, error) {
	p := place{volume: volume, dataDir: dataDir, identity: identity}
	marker, markerSeen, errMarker := p.markerState()
	data, dataSeen, errData := dataState(dataDir)
	if err := errors.Join(p.checkVolume(), errMarker, errData); err != nil {
		return Volume{}, err
	}
	return Volume{Marker: marker, Data: data, Seen: markerSeen + dataSeen}, nil
}
