package snapshot

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/freeport"
)

// fault breaks an exchange with the store. It returns true when it has answered
// itself; otherwise next does, and the fault may have changed request or writer.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// proxied is an S3 bucket behind a proxy; direct is the same one without it.
func proxied(t *testing.T, broken fault, flags ...string) (through, direct bucket) {
	t.Helper()
	target, dir := startGateway(t, flags...)
	direct = bucket{dir: filepath.Join(dir, "backups")}
	mkdir(t, direct.dir)
	direct.flags = s3Flags(t, target)
	parsed, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	// The host is part of the signature, so it stays what the client sent.
	forward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(parsed); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ErrorLog:     nil,
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { broken(w, r, forward) }))
	t.Cleanup(proxy.Close)
	return bucket{dir: direct.dir, flags: s3Flags(t, proxy.URL)}, direct
}

func isPart(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/snapshot") && r.URL.Query().Has("partNumber")
}

func isUpload(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/snapshot")
}

func isDownload(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/snapshot")
}

func isList(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Query().Has("list-type")
}

func isComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>made by the test</Message></Error>", code)
}

// reset cuts the connection.
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// once applies a fault to the first exchange that fits.
func once(fits func(*http.Request) bool, f fault) fault {
	var used atomic.Bool
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if fits(r) && used.CompareAndSwap(false, true) {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// always applies a fault to every exchange that fits.
func always(fits func(*http.Request) bool, f fault) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if fits(r) {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

func anyRequest(*http.Request) bool { return true }

// sometimes breaks one exchange in n, at random.
func sometimes(n int, f fault) fault {
	var count atomic.Uint64
	random := rand.New(rand.NewPCG(3, 3))
	pattern := make([]bool, 997)
	for i := range pattern {
		pattern[i] = random.IntN(n) == 0
	}
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pattern[count.Add(1)%997] {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// answer reads what is sent first: otherwise the connection is reset while the client
// still sends, and it may never see the answer.
func answer(status int, code string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		s3Error(w, status, code)
	}
}

// hurried answers so once, and cuts the connection from then on.
func hurried(f fault) fault {
	var told atomic.Bool
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if told.CompareAndSwap(false, true) {
			f(w, r, next)
			return
		}
		reset(w)
	}
}

func cut(w http.ResponseWriter, _ *http.Request, _ http.Handler) { reset(w) }

// pretend answers as the store would, and stores nothing.
func pretend(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("ETag", `"00000000000000000000000000000000"`)
}

// truncateBody stores the first half of what is sent, with the signature of an
// unsigned payload being the store's to check.
func truncateAnswer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	alter(w, r, next, half)
}

func flipAnswer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	alter(w, r, next, flipped)
}

// alter passes another body on than the store's, with a length that fits.
func alter(w http.ResponseWriter, r *http.Request, next http.Handler, change func([]byte) []byte) {
	recorded := httptest.NewRecorder()
	next.ServeHTTP(recorded, r)
	body := change(recorded.Body.Bytes())
	maps.Copy(w.Header(), recorded.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(recorded.Code)
	_, _ = w.Write(body)
}

// breakOff sends half of what it has announced.
func breakOff(w http.ResponseWriter, r *http.Request, next http.Handler) {
	recorded := httptest.NewRecorder()
	next.ServeHTTP(recorded, r)
	maps.Copy(w.Header(), recorded.Header())
	w.Header().Set("Content-Length", strconv.Itoa(recorded.Body.Len()))
	w.WriteHeader(recorded.Code)
	_, _ = w.Write(recorded.Body.Bytes()[:recorded.Body.Len()/2])
}

// slow lets a few bytes through at a time.
func slow(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Body = io.NopCloser(&slowReader{from: r.Body, every: 64 << 10})
	next.ServeHTTP(w, r)
}

// slowReader pauses whenever so many bytes have come.
type slowReader struct {
	from        io.Reader
	every, seen int
}

func (s *slowReader) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if s.seen += n; s.seen >= s.every {
		s.seen = 0
		time.Sleep(20 * time.Millisecond)
	}
	return n, err
}

// sluggish is a store that is slow in all that it does: it waits before it answers, takes what
// is sent little by little, and gives its answers in the same way.
func sluggish(w http.ResponseWriter, r *http.Request, next http.Handler) {
	time.Sleep(100 * time.Millisecond)
	r.Body = io.NopCloser(&slowReader{from: r.Body, every: 256 << 10})
	next.ServeHTTP(&slowWriter{ResponseWriter: w}, r)
}

// slowWriter pauses as slowReader does.
type slowWriter struct {
	http.ResponseWriter

	seen int
}

func (s *slowWriter) Write(p []byte) (n int, err error) {
	if s.seen += len(p); s.seen >= 256<<10 {
		s.seen = 0
		time.Sleep(20 * time.Millisecond)
	}
	return s.ResponseWriter.Write(p)
}

// arrives has something else arrive than was sent. The store is told that it was sent so: the
// length and the signature are those of what arrives.
func arrives(change func([]byte) []byte) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // whoever sent it is gone
		}
		body = change(body)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		if r.Header.Get("Authorization") != "" && r.Header.Get("X-Amz-Content-Sha256") != "" {
			r.Header.Set("X-Amz-Content-Sha256", fmt.Sprintf("%x", sha256.Sum256(body)))
			resigned(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

func flipped(body []byte) []byte {
	if len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	return body
}

func half(body []byte) []byte { return body[:len(body)/2] }

// flippedOnTheWay is what a store finds out that compares the signature with what arrives.
func flippedOnTheWay(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // whoever sent it is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(flipped(body)))
	next.ServeHTTP(w, r)
}

// isLastPart is a part that is smaller than the others, as only the last may be.
func isLastPart(r *http.Request) bool { return isPart(r) && r.ContentLength < 5<<20 }

func isManifest(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/"+snapshot.ManifestObject)
}

// bigSource is an etcd whose snapshot takes several parts, since its values do not
// compress.
func bigSource(t *testing.T) *etcd {
	t.Helper()
	source := startEtcd(t, "3.6.16")
	random := rand.NewChaCha8([32]byte{1})
	value := make([]byte, 1<<20)
	for i := range 24 {
		_, _ = random.Read(value)
		if _, err := source.client.Put(t.Context(), fmt.Sprintf("big/%d", i), string(value)); err != nil {
			t.Fatal(err)
		}
	}
	return source
}

// A backup at a rate takes at least the time that the rate says, to read it from etcd and to
// read it back: without it, it would take what the cluster's disks and processors have.
func TestTheRateIsKept(t *testing.T) {
	source, store := bigSource(t), s3Bucket(t)
	const rate, back, atOnce = 8 << 20, 16 << 20, 64 << 10
	began := time.Now()
	saved := store.save(t, source, fmt.Sprintf("--rate-limit=%d", rate)).mustSucceed(t)
	read, stored := saved.result.Backup.PlainBytes-atOnce, saved.result.Backup.StoredBytes-atOnce
	least := time.Duration((float64(read)/rate + float64(stored)/back) * float64(time.Second))
	if took := time.Since(began); took < least || stored < 20<<20 {
		t.Errorf("%d bytes, read at %d a second, and %d, read back, took %s, want at least %s", read, rate, stored, took, least)
	}
}

// Whatever the store does, a save either fails with the right reason or leaves a
// backup that can be restored; and there is never anything listed that cannot.
func TestFaultsOfTheStoreWhileSaving(t *testing.T) {
	source := bigSource(t)
	for name, tc := range map[string]struct {
		fault  fault
		reason snapshot.Reason // empty: it succeeds in the end
	}{
		"a 500 now and then":         {sometimes(5, answer(500, "InternalError")), ""},
		"a 503 now and then":         {sometimes(5, answer(503, "SlowDown")), ""},
		"cut now and then":           {sometimes(8, cut), ""},
		"always 503":                 {always(isPart, answer(503, "SlowDown")), snapshot.ReasonStoreUnreachable},
		"always cut":                 {always(anyRequest, cut), snapshot.ReasonStoreUnreachable},
		"a slow part":                {once(isPart, slow), ""},
		"all of it is slow":          {sluggish, ""},
		"a part arrives flipped":     {once(isPart, arrives(flipped)), ""},
		"parts arrive flipped":       {always(isPart, arrives(flipped)), snapshot.ReasonCorrupt},
		"flipped, and found out":     {once(isPart, flippedOnTheWay), ""},
		"half of a part arrives":     {once(isPart, arrives(half)), ""},
		"half of the last arrives":   {once(isLastPart, arrives(half)), ""},
		"always half of the last":    {always(isLastPart, arrives(half)), snapshot.ReasonCorrupt},
		"the manifest is flipped":    {once(isManifest, arrives(flipped)), ""},
		"half of the manifest":       {once(isManifest, arrives(half)), ""},
		"manifests are flipped":      {always(isManifest, arrives(flipped)), snapshot.ReasonCorrupt},
		"a part that is lost":        {once(isPart, pretend), ""},
		"every part is lost":         {always(isPart, pretend), snapshot.ReasonStoreUnreachable},
		"a wrong ETag":               {once(isPart, wrongETag), ""},
		"completed, says the store":  {once(isComplete, pretendComplete), ""},
		"always, says the store":     {always(isComplete, pretendComplete), snapshot.ReasonCorrupt},
		"200 with an error inside":   {once(isComplete, errorInside), ""},
		"flipped when read back":     {once(isDownload, flipAnswer), ""},
		"always flipped":             {always(isDownload, flipAnswer), snapshot.ReasonCorrupt},
		"cut off when read back":     {once(isDownload, truncateAnswer), ""},
		"always cut off, with a 200": {always(isDownload, truncateAnswer), snapshot.ReasonCorrupt},
		"breaks off when read back":  {once(isDownload, breakOff), ""},
		"403 for the upload":         {always(isUpload, answer(403, "AccessDenied")), snapshot.ReasonAccessDenied},
		"expired":                    {always(isUpload, answer(400, "ExpiredToken")), snapshot.ReasonCredentialsExpired},
		"the store is full":          {always(isUpload, answer(507, "InsufficientStorage")), snapshot.ReasonNoSpace},
		"full, and says so once":     {always(isUpload, hurried(answer(507, "InsufficientStorage"))), snapshot.ReasonNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time the client waits before it tries again
			through, direct := proxied(t, tc.fault)
			saved := through.save(t, source)
			if tc.reason == "" {
				saved.mustSucceed(t)
			} else {
				saved.mustFail(t, tc.reason)
			}
			checkNothingFalseIsListed(t, direct, saved)
		})
	}
}

// checkNothingFalseIsListed drills everything that a reader could take for a backup.
func checkNothingFalseIsListed(t *testing.T, direct bucket, saved outcome) {
	t.Helper()
	listed := direct.list(t)
	if want := saved.code == snapshot.ExitSucceeded; want != (len(listed) == 1) {
		t.Errorf("code %d, and %d backups are listed", saved.code, len(listed))
	}
	for _, b := range listed {
		direct.drill(t, "3.6.16", "--backup="+b.ID).mustSucceed(t)
	}
}

func wrongETag(w http.ResponseWriter, r *http.Request, next http.Handler) {
	recorded := httptest.NewRecorder()
	next.ServeHTTP(recorded, r)
	w.Header().Set("ETag", `"ffffffffffffffffffffffffffffffff"`)
	w.WriteHeader(recorded.Code)
}

func pretendComplete(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"x-3"</ETag></CompleteMultipartUploadResult>`)
}

func errorInside(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	s3Error(w, http.StatusOK, "InternalError")
}

// While it is read, the store's faults never make a drill say Verified of something
// else, nor damage of what is whole.
func TestFaultsOfTheStoreWhileDrilling(t *testing.T) {
	source := bigSource(t)
	for name, tc := range map[string]struct {
		fault  fault
		reason snapshot.Reason
	}{
		"cut once":        {once(isDownload, cut), ""},
		"breaks off once": {once(isDownload, breakOff), ""},
		"flipped once":    {once(isDownload, flipAnswer), ""},
		"all of it slow":  {sluggish, ""},
		"always flipped":  {always(isDownload, flipAnswer), snapshot.ReasonCorrupt},
		"always half":     {always(isDownload, truncateAnswer), snapshot.ReasonCorrupt},
		"always breaks":   {always(isDownload, breakOff), snapshot.ReasonStoreUnreachable},
		"403":             {always(isDownload, answer(403, "AccessDenied")), snapshot.ReasonAccessDenied},
		"gone":            {always(isDownload, answer(404, "NoSuchKey")), snapshot.ReasonCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time the client waits before it tries again
			through, direct := proxied(t, tc.fault)
			direct.save(t, source).mustSucceed(t)
			drilled := through.drill(t, "3.6.16")
			if tc.reason == "" {
				drilled.mustSucceed(t)
				return
			}
			drilled.mustFail(t, tc.reason)
			if drilled.result.Backup == nil || drilled.result.Backup.Verified != nil {
				t.Errorf("the result: %+v", drilled.result.Backup)
			}
			if listed := direct.list(t); len(listed) != 1 || listed[0].Verified != nil {
				t.Errorf("listed: %+v", listed)
			}
		})
	}
}

// A verification that may not be written holds all the same, and is in the result.
func TestADrillWithoutTheRightToWrite(t *testing.T) {
	source := startEtcd(t, "3.6.16")
	through, direct := proxied(t, always(func(r *http.Request) bool { return r.Method == http.MethodPut }, answer(403, "AccessDenied")))
	direct.save(t, source).mustSucceed(t)
	drilled := through.drill(t, "3.6.16").mustSucceed(t)
	if drilled.result.Verification == nil || len(drilled.result.Warnings) == 0 {
		t.Errorf("the result: %+v", drilled.result)
	}
}

// At rest, anything may happen to an object.
func TestDamageAtRest(t *testing.T) {
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 11, 50)
	random := rand.New(rand.NewPCG(9, 9))
	for _, object := range []string{snapshot.SnapshotObject, snapshot.ManifestObject} {
		for name, damage := range map[string]func([]byte) []byte{
			"a flipped bit":  func(c []byte) []byte { c[random.IntN(len(c))] ^= 1 << random.IntN(8); return c },
			"cut":            func(c []byte) []byte { return c[:random.IntN(len(c))] },
			"longer":         func(c []byte) []byte { return append(c, 0) },
			"a hole":         func(c []byte) []byte { i := random.IntN(len(c) - 1); return append(c[:i], c[i+1:]...) },
			"another of its": func(c []byte) []byte { return bytes.Repeat([]byte{0}, len(c)) },
		} {
			t.Run(object+", "+name, func(t *testing.T) {
				store := s3Bucket(t)
				saved := store.save(t, source).mustSucceed(t)
				path := store.object(saved.result.Backup.ID, object)
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(content), 0o600); err != nil {
					t.Fatal(err)
				}
				store.drill(t, "3.6.16", "--backup="+saved.result.Backup.ID).mustFail(t, snapshot.ReasonCorrupt)
				e := newEtcd(t, "3.6.16", "m-0000")
				v := newVolume(t, e.name)
				store.run(t, "restore", append(v.restoreFlags(t, e, e.initial()), "--backup="+saved.result.Backup.ID)...).mustFail(t, snapshot.ReasonCorrupt)
				if _, err := os.Stat(v.dataDir()); err == nil {
					t.Error("there is data on the volume")
				}
			})
		}
	}
}

// A backup that has rotted since its drill is verified no more, also for those who read the
// store alone; a drill that could not be written to the store, or read from it, takes
// nothing away.
func TestWhatHasRottedIsVerifiedNoMore(t *testing.T) {
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 11, 50)
	store := s3Bucket(t)
	id := store.save(t, source).mustSucceed(t).result.Backup.ID
	store.drill(t, "3.6.16", "--backup="+id).mustSucceed(t)
	wanted := func(verified bool) {
		t.Helper()
		if list := store.list(t); len(list) != 1 || (list[0].Verified != nil) != verified {
			t.Errorf("the backups are %+v; verified: want %v", list, verified)
		}
	}
	wanted(true)
	path := store.object(id, snapshot.SnapshotObject)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	// Of a flag that is given twice the last one counts.
	store.drill(t, "3.6.16", "--backup="+id, "--credentials="+secret(t, accessKey, "another")).mustFail(t, snapshot.ReasonAccessDenied)
	wanted(true)
	store.drill(t, "3.6.16", "--backup="+id).mustFail(t, snapshot.ReasonCorrupt)
	wanted(false)
}

// Killed at any moment, a save leaves what can be restored or nothing that is listed,
// and prune clears the rest away.
func TestASaveThatIsKilled(t *testing.T) {
	source := bigSource(t)
	store := s3Bucket(t)
	random := rand.New(rand.NewPCG(4, 4))
	began := time.Now()
	store.save(t, source, "--uid=whole").mustSucceed(t)
	whole := time.Since(began)
	// A save may take shorter than the first one: it goes on until an upload was interrupted.
	for i := 0; i < 20 || uploads(t, store) == 0 && i < 80; i++ {
		began := time.Now()
		command := store.command(t, filepath.Join(t.TempDir(), "termination"), "save", append(saveFlags(t, source), fmt.Sprintf("--uid=u%d", i))...)
		p := start(t, filepath.Join(t.TempDir(), "log"), command)
		select {
		case <-p.done:
			whole = min(whole, time.Since(began))
		case <-time.After(time.Duration(random.Int64N(int64(whole) * 5 / 4))):
			p.kill()
		}
	}
	for _, b := range store.list(t) {
		store.drill(t, "3.6.16", "--backup="+b.ID).mustSucceed(t)
	}
	begun := uploads(t, store)
	if begun == 0 {
		t.Fatal("no upload was interrupted: nothing is shown of what clears them away")
	}
	if pruned := store.run(t, "prune").mustSucceed(t); pruned.result.Pruned.Orphans != 0 || uploads(t, store) != begun {
		t.Errorf("what may still be going on was removed: %+v, and %d of %d uploads are left", pruned.result.Pruned, uploads(t, store), begun)
	}
	makeOlder(t, store.dir, snapshot.OrphansAfter+time.Hour)
	pruned := store.run(t, "prune").mustSucceed(t)
	t.Logf("%d listed, %d uploads begun, %d unfinished removed", len(store.list(t)), begun, pruned.result.Pruned.Orphans)
	if left := uploads(t, store); left != 0 || pruned.result.Pruned.Orphans < begun {
		t.Errorf("%d of %d uploads are left, and %d unfinished ones were removed", left, begun, pruned.result.Pruned.Orphans)
	}
	if again := store.run(t, "prune").mustSucceed(t); again.result.Pruned.Orphans != 0 || again.result.Pruned.DroppedCount != 0 {
		t.Errorf("a second prune found %+v", again.result.Pruned)
	}
}

// uploads that were begun and not ended, as the S3 server keeps them: a directory for each,
// below one for each object.
func uploads(t *testing.T, b bucket) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(b.dir, ".sgwtmp", "multipart", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// makeOlder makes everything below a directory look older.
func makeOlder(t *testing.T, root string, by time.Duration) {
	t.Helper()
	at := time.Now().Add(-by)
	err := filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRetentionOnARealStore(t *testing.T) {
	source := startEtcd(t, "3.6.16")
	refused := func(r *http.Request) bool {
		return r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "00000002-")
	}
	through, direct := proxied(t, always(refused, answer(403, "AccessDenied")))
	var saved []string
	for i := range 5 {
		if _, err := source.client.Put(t.Context(), "k", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		saved = append(saved, direct.save(t, source).mustSucceed(t).result.Backup.ID)
	}
	direct.drill(t, "3.6.16", "--backup="+saved[1]).mustSucceed(t)
	if dry := through.run(t, "prune", "--keep-last=2", "--dry-run").mustSucceed(t); dry.result.Pruned.DroppedCount != 2 || len(direct.list(t)) != 5 {
		t.Errorf("dry run: %+v", dry.result.Pruned)
	}
	// The first is locked, the second verified, the last two are the newest.
	pruned := through.run(t, "prune", "--keep-last=2").mustSucceed(t).result
	if p := pruned.Pruned; p.DroppedCount != 1 || p.Dropped[0].ID != saved[2] || p.Refused != 1 || len(pruned.Warnings) != 1 {
		t.Errorf("pruned: %+v", pruned)
	}
	var left []string
	for _, b := range direct.list(t) {
		left = append(left, b.ID)
	}
	if want := []string{saved[4], saved[3], saved[1], saved[0]}; strings.Join(left, " ") != strings.Join(want, " ") {
		t.Errorf("left: %v, want %v", left, want)
	}
	direct.run(t, "prune", "--drop="+saved[1]).mustSucceed(t)
	if left := direct.list(t); len(left) != 3 {
		t.Errorf("left after dropping one by name: %v", left)
	}
}

// A listing that is stale shows a snapshot without its manifest. Prune must look
// again before it takes it for unfinished.
func TestAStaleListingLosesNothing(t *testing.T) {
	source := startEtcd(t, "3.6.16")
	hide := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		alter(w, r, next, func(body []byte) []byte {
			return bytes.ReplaceAll(body, []byte("/manifest.json<"), []byte("/hidden.json<"))
		})
	}
	through, direct := proxied(t, always(isList, hide))
	direct.save(t, source).mustSucceed(t)
	makeOlder(t, direct.dir, snapshot.OrphansAfter+time.Hour)
	if pruned := through.run(t, "prune", "--keep-last=1").mustSucceed(t); pruned.result.Pruned.Orphans != 0 {
		t.Errorf("pruned: %+v", pruned.result.Pruned)
	}
	direct.drill(t, "3.6.16").mustSucceed(t)
}

func TestBadInput(t *testing.T) {
	source := startEtcd(t, "3.6.16")
	store := s3Bucket(t)
	good := func(flags ...string) []string { return append(saveFlags(t, source), flags...) }
	for name, tc := range map[string]struct {
		flags  []string
		reason snapshot.Reason
	}{
		"a missing bucket":          {good("--store=s3://nobody-made-it"), snapshot.ReasonBucketMissing},
		"a wrong key":               {good("--credentials=" + secret(t, accessKey, "wrong")), snapshot.ReasonAccessDenied},
		"an unknown key":            {good("--credentials=" + secret(t, "unknown", secretKey)), snapshot.ReasonAccessDenied},
		"no Secret":                 {good("--credentials=" + filepath.Join(t.TempDir(), "none")), snapshot.ReasonCredentialsMissing},
		"an empty Secret":           {good("--credentials=" + secret(t, "", "")), snapshot.ReasonCredentialsMissing},
		"nobody at the endpoint":    {good("--s3-endpoint=http://"+freeport.Address(t), "--attempts=1"), snapshot.ReasonStoreUnreachable},
		"a missing directory":       {good("--store=file:///there/is/none"), snapshot.ReasonBucketMissing},
		"another cluster's members": {good("--cluster-id=abc"), snapshot.ReasonWrongCluster},
		"nobody at etcd":            {good("--endpoints=https://"+freeport.Address(t), "--attempts=1"), snapshot.ReasonEtcdUnreachable},
		"not a URL":                 {good("--endpoints=127.0.0.1"), snapshot.ReasonUsage},
		"an odd prefix":             {good("--prefix=../x"), snapshot.ReasonUsage},
		"an odd store":              {good("--store=ftp://x"), snapshot.ReasonUsage},
		"an odd flag":               {good("--no-such-flag"), snapshot.ReasonUsage},
		"a missing flag":            {[]string{"--name=x"}, snapshot.ReasonUsage},
	} {
		t.Run(name, func(t *testing.T) {
			store.run(t, "save", tc.flags...).mustFail(t, tc.reason)
		})
	}
	if left := tree(t, store.dir); len(left) > 0 {
		t.Errorf("something was left: %v", left)
	}
}

// A manifest of another cluster in our place means that two clusters share it.
func TestAForeignPrefix(t *testing.T) {
	source := startEtcd(t, "3.6.16")
	store := s3Bucket(t)
	id := store.save(t, source).mustSucceed(t).result.Backup.ID
	other := store
	other.flags = append([]string{}, store.flags...)
	from, to := filepath.Join(store.dir, "team", "a", clusterUID), filepath.Join(store.dir, "team", "a", "other-uid")
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	store.run(t, "save", append(saveFlags(t, source), "--cluster-uid=other-uid")...).mustFail(t, snapshot.ReasonForeignPrefix)
	e := newEtcd(t, "3.6.16", "m-0000")
	v := newVolume(t, e.name)
	store.run(t, "restore", append(v.restoreFlags(t, e, e.initial()), "--cluster-uid=other-uid", "--backup="+id)...).mustFail(t, snapshot.ReasonForeignPrefix)
}
