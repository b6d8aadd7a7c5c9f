package job

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// faults of a store. Each answers instead of it, or shows less than there is.
type faults struct {
	// hidden says which objects no listing shows.
	hidden func(key string) bool
	// answered says that it has answered.
	answered func(w http.ResponseWriter, r *http.Request) bool
}

// served is a place in a directory, as a server of S3 with faults shows it.
func served(t *testing.T, f *faults) (through, direct *Env, dir string) {
	t.Helper()
	direct, dir = newEnv(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := filepath.Join(dir, strings.TrimPrefix(r.URL.Path, "/backups"))
		switch query := r.URL.Query(); {
		case f.answered != nil && f.answered(w, r):
		case query.Has("uploads"):
			fmt.Fprint(w, "<ListMultipartUploadsResult/>")
		case query.Has("list-type"):
			f.list(t, w, direct, query.Get("prefix"))
		case r.Method == http.MethodDelete:
			_ = os.Remove(path) // a store is content if there is none
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodPut:
			content, err := io.ReadAll(r.Body)
			err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700))
			if err := errors.Join(err, os.WriteFile(path, content, 0o600)); err != nil {
				t.Error(err)
			}
		default:
			content, err := os.ReadFile(path)
			if err != nil {
				deny(w, http.StatusNotFound, "NoSuchKey")
				return
			}
			_, _ = w.Write(content)
		}
	}))
	t.Cleanup(server.Close)
	credentials := t.TempDir()
	for _, key := range []string{snapshot.CredentialS3KeyID, snapshot.CredentialS3Key} {
		if err := os.WriteFile(filepath.Join(credentials, key), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tracker := &Tracker{}
	opened, err := store.Open(t.Context(), store.Config{
		URL: "s3://backups", Endpoint: server.URL, S3PathStyle: true, Credentials: credentials, Asked: tracker.Asked,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	through = &Env{Store: opened, Place: direct.Place, Attempts: 1, Tracker: tracker, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	return through, direct, dir
}

// object of a listing.
type object struct {
	Key, LastModified string
	Size              int64
}

func (f *faults) list(t *testing.T, w http.ResponseWriter, e *Env, prefix string) {
	t.Helper()
	answer := struct {
		XMLName  xml.Name `xml:"ListBucketResult"`
		Contents []object
	}{}
	err := e.Store.Each(t.Context(), prefix, func(o store.Object) {
		if f.hidden == nil || !f.hidden(o.Key) {
			answer.Contents = append(answer.Contents, object{Key: o.Key, LastModified: o.Modified.UTC().Format(time.RFC3339), Size: o.Size})
		}
	})
	if err != nil {
		t.Error(err)
	}
	_ = xml.NewEncoder(w).Encode(answer) // the reader has gone if it fails
}

func deny(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}

// denied answers so to whoever reads objects of this name.
func denied(name string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, name) {
			return false
		}
		deny(w, http.StatusForbidden, "AccessDenied")
		return true
	}
}

// called says that an object has this name.
func called(name string) func(string) bool {
	return func(key string) bool { return strings.HasSuffix(key, name) }
}

// tried records that a backup was restored on trial.
func tried(t *testing.T, e *Env, m snapshot.Manifest) {
	t.Helper()
	v := snapshot.Verification{Format: snapshot.Format, ID: m.ID, ManifestChecksum: m.Checksum, Time: m.Ended}
	if err := e.record(t.Context(), &v); err != nil {
		t.Fatal(err)
	}
}

func revisions(t *testing.T, e *Env) string {
	t.Helper()
	c, err := e.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, b := range c.Backups {
		found = append(found, strconv.FormatInt(b.Revision, 10))
	}
	return strings.Join(found, " ")
}

// The newest verified backup stays, whatever the store shows, and refuses to show: that no
// record of a drill could be read does not say that there is none.
func TestPruneKeepsTheNewestVerified(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		never, damaged bool
		faults         faults
		want           string
		reason         snapshot.Reason
	}{
		"it is seen":            {want: "14 12"},
		"never drilled":         {never: true, want: "14"},
		"hidden":                {faults: faults{hidden: called(snapshot.VerificationObject)}, want: "14 12"},
		"hidden, never drilled": {never: true, faults: faults{hidden: called(snapshot.VerificationObject)}, want: "14"},
		"refused":               {faults: faults{answered: denied(snapshot.VerificationObject)}, want: "14 13 12 11", reason: snapshot.ReasonAccessDenied},
		"hidden and refused":    {faults: faults{hidden: called(snapshot.VerificationObject), answered: denied(snapshot.VerificationObject)}, want: "14 13 12 11", reason: snapshot.ReasonAccessDenied},
		"damaged":               {damaged: true, want: "14 12"},
		"damaged and hidden":    {damaged: true, faults: faults{hidden: called(snapshot.VerificationObject)}, want: "14 12"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, direct, dir := served(t, &tc.faults)
			for revision := int64(11); revision <= 14; revision++ {
				m := stored(t, direct, revision, snapshot.CompressionNone)
				if revision != 12 || tc.never {
					continue
				}
				tried(t, direct, m)
				if tc.damaged {
					flipBit(t, filepath.Join(dir, e.Place.Key(m.ID, snapshot.VerificationObject)))
				}
			}
			_, warnings, err := e.Prune(t.Context(), Prune{Policy: snapshot.Policy{Last: 1}, OrphansAfter: time.Hour})
			if (err != nil) != (tc.reason != "") || (err != nil && snapshot.ReasonOf(err) != tc.reason) {
				t.Errorf("%v, want %q", err, tc.reason)
			}
			if tc.damaged != (len(warnings) == 1) {
				t.Errorf("warnings: %v", warnings)
			}
			if left := revisions(t, direct); left != tc.want {
				t.Errorf("left: %s, want %s", left, tc.want)
			}
		})
	}
}

func flipBit(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// archived writes segments for the revisions 11 to 20, one for each. They ended at a time, and
// the last one at the end.
func archived(t *testing.T, e *Env, dir string, at, end time.Time) (left func() int) {
	t.Helper()
	archive := filepath.Join(dir, e.Place.ArchiveDirectory("a1"))
	if err := os.MkdirAll(archive, 0o700); err != nil {
		t.Fatal(err)
	}
	before := snapshot.Link{Sum: strings.Repeat("0", 16), To: 10}
	for i := int64(1); i <= 10; i++ {
		if i == 10 {
			at = end
		}
		l := snapshot.Link{Sequence: i, From: before.To + 1, To: before.To + 1, Ended: at, Previous: before.Sum, Sum: fmt.Sprintf("%016x", i)}
		if err := os.WriteFile(filepath.Join(archive, l.Name()), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		before = l
	}
	return func() int {
		found, err := filepath.Glob(filepath.Join(archive, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
}

// Segments stay that a backup needs which no listing shows to be one, and all of them if
// nobody can tell.
func TestPruneKeepsWhatAHiddenBackupNeeds(t *testing.T) {
	t.Parallel()
	manifest := snapshot.NewID(13, time.Date(2026, 1, 1, 0, 0, 13, 0, time.UTC), "b") + "/" + snapshot.ManifestObject
	for name, tc := range map[string]struct {
		faults   faults
		gone     bool
		damaged  bool
		want     int
		warnings int
	}{
		"seen":               {want: 9},
		"damaged":            {damaged: true, want: 10, warnings: 1},
		"hidden":             {faults: faults{hidden: called(manifest)}, want: 10, warnings: 1},
		"hidden and refused": {faults: faults{hidden: called(manifest), answered: denied(manifest)}, want: 10, warnings: 1},
		"unfinished":         {gone: true, want: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, direct, dir := served(t, &tc.faults)
			stored(t, direct, 13, snapshot.CompressionNone)
			stored(t, direct, 17, snapshot.CompressionNone)
			left := archived(t, direct, dir, time.Now(), time.Now())
			if tc.gone {
				if err := os.Remove(filepath.Join(dir, direct.Place.Directory(), manifest)); err != nil {
					t.Fatal(err)
				}
			}
			if tc.damaged {
				flipBit(t, filepath.Join(dir, direct.Place.Directory(), manifest))
			}
			_, warnings, err := e.Prune(t.Context(), Prune{OrphansAfter: time.Hour})
			if err != nil || len(warnings) != tc.warnings {
				t.Errorf("warnings %v (%v)", warnings, err)
			}
			if left() != tc.want {
				t.Errorf("%d segments are left, want %d", left(), tc.want)
			}
		})
	}
}

// An archive goes that nobody appends to, and that no backup is left of.
func TestPruneRemovesAnArchiveWithoutBackups(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tc := range map[string]struct {
		at, end time.Time
		want    int
	}{
		"of now":         {now, now, 10},
		"that goes on":   {now.Add(-2 * time.Hour), now, 10},
		"that has ended": {now.Add(-2 * time.Hour), now.Add(-2 * time.Hour), 0},
	} {
		e, direct, dir := served(t, &faults{})
		left := archived(t, direct, dir, tc.at, tc.end)
		for _, rehearsal := range []bool{true, false} {
			pruned, warnings, err := e.Prune(t.Context(), Prune{OrphansAfter: time.Hour, Rehearsal: rehearsal})
			if err != nil || len(warnings) > 0 || pruned.Segments != 10-tc.want {
				t.Errorf("one %s: %+v %v (%v)", name, pruned, warnings, err)
			}
		}
		if left() != tc.want {
			t.Errorf("one %s: %d segments are left, want %d", name, left(), tc.want)
		}
	}
}

// Whoever has one backup dropped does not wait until the segments of an archive are listed,
// of which there may be a million.
func TestPruneOfNamedBackupsAsksForNoArchive(t *testing.T) {
	t.Parallel()
	listed := false
	e, direct, dir := served(t, &faults{answered: func(_ http.ResponseWriter, r *http.Request) bool {
		listed = listed || strings.Contains(r.URL.Query().Get("prefix"), "archive")
		return false
	}})
	first := stored(t, direct, 12, snapshot.CompressionNone)
	stored(t, direct, 17, snapshot.CompressionNone)
	left := archived(t, direct, dir, time.Now(), time.Now())
	pruned, _, err := e.Prune(t.Context(), Prune{Drop: []string{first.ID}, OrphansAfter: time.Hour})
	if err != nil || pruned.DroppedCount != 1 || revisions(t, direct) != "17" {
		t.Errorf("%+v, left: %s (%v)", pruned, revisions(t, direct), err)
	}
	if listed || left() != 10 {
		t.Errorf("archives were listed: %t, and %d segments are left", listed, left())
	}
}

// patient is longer than a machine stands still for, as a rule: it gives up on a store that
// stalls, and not on one that is slow.
const patient = time.Second

// Whoever has one backup dropped gets it done, however the others are: that one of them cannot
// be read, or not even listed, is no reason to keep this one. The others stay.
func TestPruneOfNamedBackupsAsksNoOther(t *testing.T) {
	t.Parallel()
	id := func(revision int) string {
		return snapshot.NewID(int64(revision), time.Date(2026, 1, 1, 0, 0, revision, 0, time.UTC), "b") + "/"
	}
	for name, tc := range map[string]struct {
		faults   faults
		damaged  string
		warnings int
	}{
		"whole":                  {},
		"a damaged manifest":     {damaged: snapshot.ManifestObject},
		"a damaged verification": {damaged: snapshot.VerificationObject},
		"manifests refused":      {faults: faults{answered: denied(snapshot.ManifestObject)}},
		"verifications refused":  {faults: faults{answered: denied(snapshot.VerificationObject)}},
		"manifests stall":        {faults: faults{answered: stalled(reads(snapshot.ManifestObject))}},
		"verifications stall":    {faults: faults{answered: stalled(reads(snapshot.VerificationObject))}},
		"an unfinished one":      {faults: faults{hidden: called(id(17) + snapshot.ManifestObject), answered: stalled(reads(snapshot.ManifestObject))}},
		"a listing refused":      {faults: faults{answered: deniedTo(lists("/0"))}, warnings: 1},
		"a listing stalls":       {faults: faults{answered: stalled(lists("/0"))}, warnings: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, direct, dir := served(t, &tc.faults)
			e.Stall = patient
			dropped, other := stored(t, direct, 12, snapshot.CompressionNone), stored(t, direct, 17, snapshot.CompressionNone)
			tried(t, direct, other)
			if tc.damaged != "" {
				flipBit(t, filepath.Join(dir, direct.Place.Key(other.ID, tc.damaged)))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			// Unfinished backups are looked for whatever their age is.
			pruned, warnings, err := e.Prune(ctx, Prune{Drop: []string{dropped.ID}, OrphansAfter: -time.Hour})
			if err != nil || len(warnings) != tc.warnings || pruned.DroppedCount != 1 || pruned.Orphans != 0 {
				t.Errorf("%+v, warnings %v (%v)", pruned, warnings, err)
			}
			for m, want := range map[string]int{dropped.ID: 0, other.ID: 3} {
				if left, err := filepath.Glob(filepath.Join(dir, direct.Place.Key(m, "*"))); err != nil || len(left) != want {
					t.Errorf("of %s %v is left (%v), want %d objects", m, left, err, want)
				}
			}
		})
	}
}

// deniedTo answers so to whoever asks so.
func deniedTo(fits func(*http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if fits(r) {
			deny(w, http.StatusForbidden, "AccessDenied")
		}
		return fits(r)
	}
}

// stalled begins an answer to whoever asks so, and never ends it.
func stalled(fits func(*http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !fits(r) {
			return false
		}
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("<"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}
}

func reads(name string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, name) }
}

func lists(part string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Query().Get("prefix"), part) }
}

// Whoever looks for a backup gives up on a store that begins to answer and does not go on, and
// takes nothing for missing because of that.
func TestLookingEndsWhenTheStoreStalls(t *testing.T) {
	t.Parallel()
	catalog := func(ctx context.Context, e *Env, _ string) error {
		_, err := e.Catalog(ctx)
		return err
	}
	find := func(ctx context.Context, e *Env, id string) error {
		_, err := e.find(ctx, id)
		return err
	}
	latest := func(ctx context.Context, e *Env, _ string) error { return find(ctx, e, Latest) }
	save := func(ctx context.Context, e *Env, _ string) error {
		done, err := e.existing(ctx, Save{Name: "b", UID: "u"})
		if err == nil && done == nil {
			return fmt.Errorf("nothing is there: %w", snapshot.Fail(snapshot.ReasonBackupMissing, nil, "x — y — z"))
		}
		return err
	}
	archive := func(ctx context.Context, e *Env, _ string) error {
		_, err := e.chainOf(ctx, "a1")
		return err
	}
	for name, tc := range map[string]struct {
		look  func(context.Context, *Env, string) error
		stall func(*http.Request) bool
	}{
		"catalog, of a listing":       {catalog, lists("/0")},
		"catalog, of a manifest":      {catalog, reads(snapshot.ManifestObject)},
		"catalog, of a verification":  {catalog, reads(snapshot.VerificationObject)},
		"one backup":                  {find, reads(snapshot.ManifestObject)},
		"the latest, of a listing":    {latest, lists("/0")},
		"the latest, of a manifest":   {latest, reads(snapshot.ManifestObject)},
		"a finished one, of listings": {save, lists("/0")},
		"a finished one, by manifest": {save, reads(snapshot.ManifestObject)},
		"a finished one, read back":   {save, reads(snapshot.SnapshotObject)},
		"an archive":                  {archive, lists("/archive/")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, direct, _ := served(t, &faults{answered: stalled(tc.stall)})
			// Every case stalls: to give up on a slow one, too, is the same answer.
			e.Stall = 200 * time.Millisecond
			m := stored(t, direct, 12, snapshot.CompressionNone)
			if err := direct.remove(t.Context(), m.ID); err != nil {
				t.Fatal(err)
			}
			m.UID = "u"
			if err := direct.seal(t.Context(), &m); err != nil {
				t.Fatal(err)
			}
			tried(t, direct, m)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := tc.look(ctx, e, m.ID); snapshot.ReasonOf(err) != snapshot.ReasonStoreUnreachable || ctx.Err() != nil {
				t.Errorf("%v, want StoreUnreachable by itself", err)
			}
		})
	}
}

// A catalog of many backups takes its time, and is not given up on while it is answered.
func TestLookingMoves(t *testing.T) {
	e, _ := newEnv(t)
	for revision := int64(11); revision <= 14; revision++ {
		tried(t, e, stored(t, e, revision, snapshot.CompressionNone))
	}
	before := e.Tracker.movement()
	if _, err := e.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Three objects of each are listed, and two are read.
	if moved := e.Tracker.movement() - before; moved != 4*5 {
		t.Errorf("it moved %d times", moved)
	}
}

// What is tried again is found.
func TestLookingIsTriedAgain(t *testing.T) {
	t.Parallel()
	asked := 0
	e, direct, _ := served(t, &faults{answered: stalled(func(r *http.Request) bool {
		if reads(snapshot.ManifestObject)(r) {
			asked++
		}
		return asked == 1
	})})
	e.Stall, e.Attempts = patient, 2
	m := stored(t, direct, 12, snapshot.CompressionNone)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if found, err := e.find(ctx, m.ID); err != nil || found.ID != m.ID || asked != 2 {
		t.Errorf("%+v, asked %d times (%v)", found, asked, err)
	}
}
