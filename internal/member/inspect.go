package member

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// place is where the guard looks and as whom.
type place struct {
	volume   string // mount point of the volume
	dataDir  string // etcd's data directory, below volume
	bootDir  string // survives the container, not the pod
	identity Identity
}

// findings are facts and, for the people who read the refusal, what was seen.
type findings struct {
	Facts
	seen string
}

// inspect looks at the volume. It follows no symbolic link below it. Whatever
// cannot be examined is "unreadable", never "absent": a wrong file mode or a dying
// disk must not look like a lost volume.
func (p place) inspect(a Annotations) findings {
	f := findings{Facts: Facts{MayBeEmpty: a.MayBeEmpty, Held: a.Held()}}
	var dataSeen, markerSeen string
	var err, errData, errMarker error
	f.BootMark, err = exists(filepath.Join(p.bootDir, BootMarkFile))
	f.Data, dataSeen, errData = dataState(p.dataDir)
	f.Marker, markerSeen, errMarker = p.markerState()
	if err := errors.Join(err, p.checkVolume(), errData, errMarker); err != nil {
		f.Unreadable, f.seen = true, oneLine(err.Error())
		return f
	}
	f.seen = markerSeen + dataSeen
	return f
}

func (p place) checkVolume() error {
	info, err := os.Stat(p.volume)
	if err != nil {
		return fmt.Errorf("examining volume: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("examining volume: %s is a %s", p.volume, kind(info.Mode()))
	}
	return nil
}

// markerState says nothing about a marker that is as it should be.
func (p place) markerState() (state MarkerState, seen string, err error) {
	marker, err := readMarker(filepath.Join(p.volume, MarkerFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return MarkerAbsent, "no marker, ", nil
	case errors.Is(err, errCorruptMarker):
		return MarkerCorrupt, fmt.Sprintf("a damaged marker (%s), ", oneLine(err.Error())), nil
	case err != nil:
		return MarkerAbsent, "", err
	case marker.Identity != p.identity:
		return MarkerForeign, fmt.Sprintf("the marker of %s, ", marker.differences(p.identity)), nil
	case marker.Booted:
		return MarkerBooted, "", nil
	default:
		return MarkerClaimed, "", nil
	}
}

// oddError says that path is not what etcd keeps there.
type oddError struct {
	path string
	mode fs.FileMode
}

func (e *oddError) Error() string { return e.path + " a " + kind(e.mode) }

// dataState looks at etcd's directory as etcd does: any name in member/wal that
// ends in .wal makes it believe in a log.
func dataState(dataDir string) (state DataState, seen string, err error) {
	state, seen, err = examineData(dataDir)
	if odd, ok := errors.AsType[*oddError](err); ok {
		return DataOdd, odd.Error(), nil
	}
	return state, seen, err
}

func examineData(dataDir string) (state DataState, seen string, err error) {
	names, err := listDirectory(dataDir)
	if err != nil {
		return DataAbsent, "", err
	}
	if len(names) == 0 {
		return DataAbsent, "no data in " + dataDir, nil
	}
	memberDir := filepath.Join(dataDir, "member")
	walDir, snapDir := filepath.Join(memberDir, "wal"), filepath.Join(memberDir, "snap")
	// Parents before their children, so that a link in the path is seen.
	for _, path := range []string{memberDir, snapDir} {
		if _, err := listDirectory(path); err != nil {
			return DataAbsent, "", err
		}
	}
	log, err := listLog(walDir)
	if err != nil {
		return DataAbsent, "", err
	}
	switch {
	case log.unusable != "":
		return DataLogUnusable, log.unusable, nil
	case log.files == 0:
		return DataLeftovers, "no write-ahead log in " + walDir, nil
	}
	return examineDatabase(filepath.Join(snapDir, "db"), fmt.Sprintf("%d log files in %s", log.files, walDir))
}

// examineDatabase looks at the database beside a usable log.
func examineDatabase(path, log string) (state DataState, seen string, err error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return DataLogOnly, log + " and no " + path, nil
	case err != nil:
		return DataAbsent, "", fmt.Errorf("examining database: %w", err)
	case !info.Mode().IsRegular():
		return DataAbsent, "", &oddError{path: path, mode: info.Mode()}
	case info.Size() == 0:
		// bbolt makes a new, empty database of an empty file.
		return DataLogOnly, log + " and an empty " + path, nil
	}
	return DataComplete, log, nil
}

// logFiles are the files of a write-ahead log.
type logFiles struct {
	files    int
	unusable string // the first that cannot be one
}

func listLog(walDir string) (logFiles, error) {
	names, err := listDirectory(walDir)
	if err != nil {
		return logFiles{}, err
	}
	var log logFiles
	for _, name := range names {
		if filepath.Ext(name) != ".wal" {
			continue
		}
		path := filepath.Join(walDir, name)
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // purged by a running etcd since it was listed
		}
		if err != nil {
			return logFiles{}, fmt.Errorf("examining write-ahead log: %w", err)
		}
		if !info.Mode().IsRegular() || info.Size() == 0 {
			log.unusable = fmt.Sprintf("%s a %s of %d bytes", path, kind(info.Mode()), info.Size())
		}
		log.files++
	}
	return log, nil
}

// listDirectory returns the names in path, and none if it does not exist.
func listDirectory(path string) ([]string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("examining directory: %w", err)
	}
	if !info.IsDir() {
		return nil, &oddError{path: path, mode: info.Mode()}
	}
	directory, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening directory: %w", err)
	}
	defer directory.Close()
	names, err := directory.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("reading directory: %w", err)
	}
	return names, nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("examining boot mark: %w", err)
	}
	return true, nil
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode.IsRegular():
		return "file"
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	default:
		return "special file"
	}
}
