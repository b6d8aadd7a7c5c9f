package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Names of the guard's own files at the root of a member's volume, beside etcd's
// data directory, and of the mark in the boot directory.
const (
	MarkerFile   = "member.json"
	LockFile     = "member.lock"
	BootMarkFile = "booted.json"
)

// maxMarker bounds what is read of a marker, in bytes.
const maxMarker = 4 << 10

// Identity is what ties a volume to one member of one cluster. All fields are set.
type Identity struct {
	ClusterUID string `json:"clusterUID"`
	// Incarnation rises with a restore and with a recovery from lost quorum.
	Incarnation int64  `json:"incarnation"`
	Member      string `json:"member"`
	// VolumeUID is the UID of the PersistentVolumeClaim.
	VolumeUID string `json:"volumeUID"`
}

// Marker is the content of MarkerFile.
type Marker struct {
	Identity
	// Booted is set once etcd's write-ahead log was seen to exist.
	Booted bool `json:"booted"`
}

// WriteMarker claims the volume mounted at volume, so that it survives a crash at
// any point: a reader sees the old marker or the new one, never a part.
func WriteMarker(volume string, marker Marker) error {
	return writeDurably(filepath.Join(volume, MarkerFile), marker)
}

// errCorruptMarker wraps what makes a marker unreadable as one.
var errCorruptMarker = errors.New("not a marker of the guard")

// readMarker returns fs.ErrNotExist when there is none, errCorruptMarker when there
// is something else, and any other error when it cannot be told.
func readMarker(path string) (Marker, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Marker{}, fmt.Errorf("examining marker: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Marker{}, fmt.Errorf("%w: %s is a %s", errCorruptMarker, path, kind(info.Mode()))
	}
	file, err := os.Open(path)
	if err != nil {
		return Marker{}, fmt.Errorf("opening marker: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxMarker+1))
	if err != nil {
		return Marker{}, fmt.Errorf("reading marker: %w", err)
	}
	return parseMarker(content)
}

// parseMarker ignores fields it does not know, so that a member can go back to an
// older guard, but insists on those that carry the identity.
func parseMarker(content []byte) (Marker, error) {
	var stored struct {
		Marker
		Incarnation *int64 `json:"incarnation"`
		Booted      *bool  `json:"booted"`
	}
	if len(content) > maxMarker {
		return Marker{}, fmt.Errorf("%w: larger than %d bytes", errCorruptMarker, maxMarker)
	}
	if err := json.Unmarshal(content, &stored); err != nil {
		return Marker{}, fmt.Errorf("%w: %w", errCorruptMarker, err)
	}
	if stored.ClusterUID == "" || stored.Member == "" || stored.VolumeUID == "" || stored.Incarnation == nil || stored.Booted == nil {
		return Marker{}, fmt.Errorf("%w: it lacks a part of the identity", errCorruptMarker)
	}
	marker := stored.Marker
	marker.Incarnation, marker.Booted = *stored.Incarnation, *stored.Booted
	return marker, nil
}

// differences names the fields in which the marker's identity is not the pod's.
func (i Identity) differences(pod Identity) string {
	var parts []string
	add := func(what string, onVolume, inPod any) {
		if onVolume != inPod {
			parts = append(parts, fmt.Sprintf("%s %v (this pod: %v)", what, onVolume, inPod))
		}
	}
	add("cluster UID", i.ClusterUID, pod.ClusterUID)
	add("incarnation", i.Incarnation, pod.Incarnation)
	add("member", i.Member, pod.Member)
	add("volume UID", i.VolumeUID, pod.VolumeUID)
	return strings.Join(parts, ", ")
}

// writeDurably replaces path by marker. The file is fsynced before the rename and
// the directory after it: without the first a power cut may leave an empty marker,
// without the second none at all.
func writeDurably(path string, marker Marker) error {
	content, err := json.Marshal(marker)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	// The name is fixed and the volume locked, so what a crash left is overwritten.
	temporary := path + ".tmp"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an unfinished %s: %w", path, err)
	}
	// Group-writable, because a volume is handed on by its group (fsGroup).
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o660)
	if err != nil {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	_, err = file.Write(append(content, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening %s to sync it: %w", path, err)
	}
	if err := errors.Join(directory.Sync(), directory.Close()); err != nil {
		return fmt.Errorf("syncing %s: %w", path, err)
	}
	return nil
}
