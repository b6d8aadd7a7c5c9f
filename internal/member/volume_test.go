package member

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var own = Identity{ClusterUID: "c-1", Incarnation: 1, Member: "m-0000", VolumeUID: "v-1"}

const oneLog = "member/wal/0000000000000000-0000000000000000.wal"

// tree makes files below root: name → content; a name that ends in "/" is a
// directory, a content that begins with "->" a symbolic link.
func tree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		target, link := strings.CutPrefix(content, "->")
		switch {
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(path, 0o755))
		case link:
			must(t, os.Symlink(target, path))
		default:
			must(t, os.WriteFile(path, []byte(content), 0o600))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPlace(t *testing.T) place {
	t.Helper()
	root := t.TempDir()
	p := place{volume: filepath.Join(root, "volume"), bootDir: filepath.Join(root, "boot"), identity: own}
	p.dataDir = filepath.Join(p.volume, "data")
	must(t, os.Mkdir(p.volume, 0o755))
	must(t, os.Mkdir(p.bootDir, 0o755))
	return p
}

func TestDataState(t *testing.T) {
	const db = "member/snap/db"
	for name, tc := range map[string]struct {
		files map[string]string
		want  DataState
	}{
		"no directory":                        {nil, DataAbsent},
		"an empty directory":                  {map[string]string{"data/": ""}, DataAbsent},
		"a first boot that failed":            {map[string]string{"data/" + db: "x"}, DataLeftovers},
		"a crash while the log was made":      {map[string]string{"data/" + db: "x", "data/member/wal.tmp/0-0.wal": "x"}, DataLeftovers},
		"a log directory without a log":       {map[string]string{"data/" + db: "x", "data/member/wal/0.tmp": "x"}, DataLeftovers},
		"log and database":                    {map[string]string{"data/" + db: "x", "data/" + oneLog: "x"}, DataComplete},
		"log and database, and a broken log":  {map[string]string{"data/" + db: "x", "data/" + oneLog: "x", "data/" + oneLog + ".broken": ""}, DataComplete},
		"log without database":                {map[string]string{"data/" + oneLog: "x"}, DataLogOnly},
		"log and an empty database":           {map[string]string{"data/" + db: "", "data/" + oneLog: "x"}, DataLogOnly},
		"an empty log":                        {map[string]string{"data/" + db: "x", "data/" + oneLog: ""}, DataLogUnusable},
		"an empty log beside a good one":      {map[string]string{"data/" + db: "x", "data/" + oneLog: "x", "data/member/wal/1-1.wal": ""}, DataLogUnusable},
		"a directory with a log's name":       {map[string]string{"data/" + db: "x", "data/" + oneLog + "/": ""}, DataLogUnusable},
		"a link with a log's name":            {map[string]string{"data/" + db: "x", "data/" + oneLog: "->/etc/hostname"}, DataLogUnusable},
		"the data directory is a file":        {map[string]string{"data": "x"}, DataOdd},
		"the data directory is a link":        {map[string]string{"data": "->elsewhere", "elsewhere/" + db: "x"}, DataOdd},
		"a link that leads nowhere":           {map[string]string{"data": "->nowhere"}, DataOdd},
		"member is a link":                    {map[string]string{"data/member": "->../elsewhere", "elsewhere/snap/db": "x"}, DataOdd},
		"wal is a link":                       {map[string]string{"data/" + db: "x", "data/member/wal": "->/elsewhere"}, DataOdd},
		"wal is a file":                       {map[string]string{"data/" + db: "x", "data/member/wal": "x"}, DataOdd},
		"snap is a link":                      {map[string]string{"data/member/snap": "->/elsewhere", "data/" + oneLog: "x"}, DataOdd},
		"the database is a link":              {map[string]string{"data/" + db: "->/elsewhere", "data/" + oneLog: "x"}, DataOdd},
		"the database is a directory":         {map[string]string{"data/" + db + "/": "", "data/" + oneLog: "x"}, DataOdd},
		"files that are not etcd's":           {map[string]string{"data/notes.txt": "x"}, DataLeftovers},
		"what lies beside the data directory": {map[string]string{"lost+found/": "", "other": "x"}, DataAbsent},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			tree(t, root, tc.files)
			got, seen, err := dataState(filepath.Join(root, "data"))
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("state %d (%s), want %d", got, seen, tc.want)
			}
			if seen == "" {
				t.Error("nothing to tell the reader of a refusal")
			}
		})
	}
}

func TestMarkerState(t *testing.T) {
	whole := `{"clusterUID":"c-1","incarnation":1,"member":"m-0000","volumeUID":"v-1","booted":true}`
	for name, tc := range map[string]struct {
		content string
		want    MarkerState
		seen    string
	}{
		"own, booted":                   {whole, MarkerBooted, ""},
		"own, claimed":                  {strings.Replace(whole, "true", "false", 1), MarkerClaimed, ""},
		"of a newer guard":              {strings.Replace(whole, "{", `{"more":{"a":1},`, 1), MarkerBooted, ""},
		"of another cluster":            {strings.Replace(whole, "c-1", "c-2", 1), MarkerForeign, "cluster UID c-2 (this pod: c-1)"},
		"of another incarnation":        {strings.Replace(whole, ":1,", ":2,", 1), MarkerForeign, "incarnation 2 (this pod: 1)"},
		"of another member":             {strings.Replace(whole, "m-0000", "m-0001", 1), MarkerForeign, "member m-0001 (this pod: m-0000)"},
		"of another volume":             {strings.Replace(whole, "v-1", "v-2", 1), MarkerForeign, "volume UID v-2 (this pod: v-1)"},
		"empty":                         {"", MarkerCorrupt, "damaged"},
		"cut off":                       {whole[:len(whole)-1], MarkerCorrupt, "damaged"},
		"with rubbish after it":         {whole + "}", MarkerCorrupt, "damaged"},
		"two of them":                   {whole + whole, MarkerCorrupt, "damaged"},
		"without the incarnation":       {strings.Replace(whole, `"incarnation":1,`, "", 1), MarkerCorrupt, "lacks"},
		"without the booted mark":       {strings.Replace(whole, `,"booted":true`, "", 1), MarkerCorrupt, "lacks"},
		"without the cluster":           {strings.Replace(whole, "c-1", "", 1), MarkerCorrupt, "lacks"},
		"of wrong types":                {strings.Replace(whole, ":1,", `:"1",`, 1), MarkerCorrupt, "damaged"},
		"null":                          {"null", MarkerCorrupt, "lacks"},
		"zeroes, as a disk leaves them": {strings.Repeat("\x00", 100), MarkerCorrupt, "damaged"},
		"far too large":                 {whole + strings.Repeat(" ", maxMarker), MarkerCorrupt, "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			tree(t, p.volume, map[string]string{MarkerFile: tc.content})
			got, seen, err := p.markerState()
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want || !strings.Contains(seen, tc.seen) {
				t.Errorf("state %d (%q), want %d (%q)", got, seen, tc.want, tc.seen)
			}
		})
	}
}

func TestAMarkerThatIsNoFileIsDamaged(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"directory": {MarkerFile + "/": ""},
		"link":      {MarkerFile: "->elsewhere", "elsewhere": "x"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			tree(t, p.volume, files)
			if got, _, err := p.markerState(); got != MarkerCorrupt || err != nil {
				t.Errorf("state %d, error %v, want a damaged marker", got, err)
			}
		})
	}
}

func TestWriteMarkerOverWhatACrashLeft(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"nothing":                             {},
		"an unfinished first marker":          {MarkerFile + ".tmp": `{"clus`},
		"an unfinished second marker":         {MarkerFile: `{"x":1}`, MarkerFile + ".tmp": `{"clus`},
		"a link where the unfinished one was": {MarkerFile + ".tmp": "->victim", "victim": "precious"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			tree(t, p.volume, files)
			want := Marker{Identity: own, Booted: true}
			must(t, WriteMarker(p.volume, want))
			got, err := readMarker(filepath.Join(p.volume, MarkerFile))
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("marker (-want +got):\n%s", diff)
			}
			if _, err := os.Lstat(filepath.Join(p.volume, MarkerFile+".tmp")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("unfinished marker: %v, want none", err)
			}
			if victim, err := os.ReadFile(filepath.Join(p.volume, "victim")); err == nil && string(victim) != "precious" {
				t.Errorf("the link's target was overwritten: %q", victim)
			}
		})
	}
}

// An unfinished marker alone is no marker: the claim comes before the first start,
// so etcd has not run.
func TestAnUnfinishedMarkerIsNoMarker(t *testing.T) {
	p := newPlace(t)
	tree(t, p.volume, map[string]string{MarkerFile + ".tmp": `{"clus`})
	if got, _, err := p.markerState(); got != MarkerAbsent || err != nil {
		t.Errorf("state %d, error %v, want no marker", got, err)
	}
}

// Root reads everything, so what cannot be read is made with a name that is too
// long: the kernel refuses it with an error other than "not found".
func TestWhatCannotBeExaminedIsNotAbsent(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, change := range map[string]func(*place){
		"volume":         func(p *place) { p.volume = filepath.Join(p.volume, "gone") },
		"volume, a file": func(p *place) { p.volume = os.Args[0] },
		"data directory": func(p *place) { p.dataDir = filepath.Join(p.volume, long) },
		"boot directory": func(p *place) { p.bootDir = filepath.Join(p.bootDir, long) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			change(&p)
			f := p.inspect(Annotations{MayBeEmpty: true})
			if !f.Unreadable || f.seen == "" {
				t.Errorf("findings %+v, want unreadable, and why", f)
			}
			if d := Decide(f.Facts); d != refuse(ReasonVolumeUnusable) {
				t.Errorf("decision %+v, want VolumeUnusable", d)
			}
		})
	}
}

func TestInspectGathersAllFacts(t *testing.T) {
	p := newPlace(t)
	must(t, WriteMarker(p.volume, Marker{Identity: own}))
	tree(t, p.bootDir, map[string]string{BootMarkFile: ""})
	tree(t, p.dataDir, map[string]string{"member/snap/db": "x"})
	got := p.inspect(Annotations{MayBeEmpty: true, Hold: true}).Facts
	want := Facts{MayBeEmpty: true, BootMark: true, Held: true, Marker: MarkerClaimed, Data: DataLeftovers}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestDiscardKeepsTheNewestThree(t *testing.T) {
	p := newPlace(t)
	tree(t, p.volume, map[string]string{"discarded-007/x": "", "discarded-x/y": "", "discarded-0/y": ""})
	for range 12 {
		tree(t, p.dataDir, map[string]string{"member/snap/db": "x"})
		must(t, p.discard())
	}
	numbers, err := p.discarded()
	must(t, err)
	if diff := cmp.Diff([]int{10, 11, 12}, numbers); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	for _, name := range []string{"discarded-007", "discarded-x", "discarded-0"} {
		if _, err := os.Stat(filepath.Join(p.volume, name)); err != nil {
			t.Errorf("a directory that is not the guard's is gone: %v", err)
		}
	}
	if state, _, err := dataState(p.dataDir); state != DataAbsent || err != nil {
		t.Errorf("data directory: state %d, error %v, want none", state, err)
	}
}

func TestDiscardTouchesNoLog(t *testing.T) {
	p := newPlace(t)
	tree(t, p.dataDir, map[string]string{"member/snap/db": "x", oneLog: "x"})
	if err := p.discard(); err == nil {
		t.Error("moved a write-ahead log aside")
	}
	if state, _, _ := dataState(p.dataDir); state != DataComplete {
		t.Errorf("state %d afterwards, want the data as it was", state)
	}
}

func TestDiscardRemovesNoLogThatSomebodyPutAmongTheLeftovers(t *testing.T) {
	p := newPlace(t)
	tree(t, p.volume, map[string]string{"discarded-1/member/snap/db": "x", "discarded-1/" + oneLog: "x"})
	for range 5 {
		tree(t, p.dataDir, map[string]string{"member/snap/db": "x"})
		must(t, p.discard())
	}
	if _, err := os.Stat(filepath.Join(p.volume, "discarded-1", oneLog)); err != nil {
		t.Errorf("the log is gone: %v", err)
	}
}
