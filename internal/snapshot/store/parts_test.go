package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/fsouza/fake-gcs-server/fakestorage"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/clouds"
)

// manyParts is an object of eight parts and a bit, in bytes.
const manyParts = 8*partSize + 12345

// fault breaks an exchange, or has the store serve it.
type fault func(w http.ResponseWriter, r *http.Request, store http.Handler)

// flaky is a cloud behind faults.
type flaky struct {
	*Store

	// parts that were sent are counted, and some of them meet a fault; so does the content that
	// is read.
	parts  atomic.Int32
	faults map[int32]fault
	// reading is met by the next that reads an object.
	reading atomic.Pointer[fault]
	// rate is how many bytes a second may be sent to it; zero for no limit.
	rate int64
}

func (f *flaky) serve(w http.ResponseWriter, r *http.Request, store http.Handler) {
	isPart := r.URL.Query().Get("comp") == "block" || r.URL.Query().Has("upload_id")
	if isPart {
		if broken := f.faults[f.parts.Add(1)]; broken != nil {
			broken(w, r, store)
			return
		}
	}
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/p/large") {
		if broken := f.reading.Swap(nil); broken != nil {
			(*broken)(w, r, store)
			return
		}
	}
	store.ServeHTTP(w, r)
}

// behind opens a store behind faults, at an address.
func (f *flaky) behind(t *testing.T, serving func(address string) (http.Handler, Config)) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	handler, config := serving(server.Listener.Addr().String())
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(w, r, handler) })
	server.Start()
	t.Cleanup(server.Close)
	config.SendRate = f.rate
	opened, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	f.Store = opened
}

// flakyClouds are those whose large objects are sent by parts, with buckets of their own.
var flakyClouds = map[string]func(t *testing.T, f *flaky){
	"GCS": func(t *testing.T, f *flaky) {
		t.Helper()
		f.behind(t, func(address string) (http.Handler, Config) {
			google, err := clouds.NewGCS(address)
			if err != nil {
				t.Fatal(err)
			}
			google.Server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "backups"})
			account, err := google.ServiceAccount()
			if err != nil {
				t.Fatal(err)
			}
			return google, Config{URL: "gs://backups", Endpoint: "http://" + address, Credentials: mounted(t, map[string]string{snapshot.CredentialGCS: string(account)})}
		})
	},
	"Azure": func(t *testing.T, f *flaky) {
		t.Helper()
		f.behind(t, func(address string) (http.Handler, Config) {
			azure := clouds.NewAzure()
			makeContainer(t, azure)
			return azure, Config{
				URL: "azblob://backups", Endpoint: "http://" + address + "/" + clouds.AzureAccount, AzureAccount: clouds.AzureAccount,
				Credentials: mounted(t, map[string]string{snapshot.CredentialAzureKey: clouds.AzureKey}),
			}
		})
	},
}

func makeContainer(t *testing.T, azure http.Handler) {
	t.Helper()
	server := httptest.NewServer(azure)
	defer server.Close()
	key, err := container.NewSharedKeyCredential(clouds.AzureAccount, clouds.AzureKey)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithSharedKeyCredential(server.URL+"/"+clouds.AzureAccount+"/backups", key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func busy(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusServiceUnavailable)
}

// cutInside hears a half of what is sent.
func cutInside(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	cut(w)
}

// unanswered has the store do it, and nobody is told.
func unanswered(w http.ResponseWriter, r *http.Request, store http.Handler) {
	store.ServeHTTP(httptest.NewRecorder(), r)
	cut(w)
}

// halfAnswered tells a half of it.
func halfAnswered(w http.ResponseWriter, r *http.Request, store http.Handler) {
	answer := httptest.NewRecorder()
	store.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.Header())
	w.Header().Set("Content-Length", fmt.Sprint(answer.Body.Len()))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
}

func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// send writes random bytes as a backup is written, a little at a time.
func send(w *Writer, size int64) (hash.Hash, error) {
	sum := sha256.New()
	_, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(w, sum)}, io.LimitReader(rand.NewChaCha8([32]byte{byte(size)}), size), make([]byte, 64<<10))
	return sum, err
}

func (f *flaky) read(ctx context.Context) (sum []byte, size int64, err error) {
	r, size, err := f.Reader(ctx, "p/large")
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	got := sha256.New()
	n, err := io.Copy(got, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes came of %d, and no error", n, size)
	}
	return got.Sum(nil), size, err
}

// What takes many parts is what was sent, whichever of them had to be sent again: one that the
// store was too busy for, one that was cut, and one that it has and nobody was told.
func TestPartsAreSentAgain(t *testing.T) {
	for name, open := range flakyClouds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &flaky{faults: map[int32]fault{2: busy, 5: cutInside, 7: unanswered}}
			open(t, f)
			w, err := f.Writer(t.Context(), "p/large", Replace)
			if err != nil {
				t.Fatal(err)
			}
			want, err := send(w, manyParts)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := f.parts.Load(); n != 9+3 {
				t.Errorf("%d parts were sent, want 9 and 3 again", n)
			}
			broken := fault(halfAnswered)
			f.reading.Store(&broken)
			// Google's client goes on where it was cut; of Azure's content the rest is missing, and
			// that is said.
			sum, _, err := f.read(t.Context())
			if err != nil && snapshot.ReasonOf(err) != snapshot.ReasonStoreUnreachable || err == nil && !bytes.Equal(sum, want.Sum(nil)) {
				t.Errorf("cut in the middle: %x, %v", sum, err)
			}
			sum, size, err := f.read(t.Context())
			if err != nil || size != manyParts || !bytes.Equal(sum, want.Sum(nil)) {
				t.Errorf("%d bytes with %x, want %x: %v", size, sum, want.Sum(nil), err)
			}
		})
	}
}

// What was begun and is given up is not there: nobody sees the parts that were sent, and an
// object of before stays.
func TestPartsThatAreAbandonedAreNotSeen(t *testing.T) {
	for name, open := range flakyClouds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &flaky{}
			open(t, f)
			abandon := func() {
				t.Helper()
				f.parts.Store(0)
				w, err := f.Writer(t.Context(), "p/large", Replace)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := send(w, manyParts*3/4); err != nil {
					t.Fatal(err)
				}
				w.Abort()
				if f.parts.Load() < 4 {
					t.Errorf("%d parts were sent before", f.parts.Load())
				}
			}
			abandon()
			if left, err := f.List(t.Context(), "p/"); err != nil || len(left) > 0 {
				t.Errorf("left: %v (%v)", left, err)
			}
			if _, _, err := f.read(t.Context()); !errors.Is(err, ErrNotExist) {
				t.Errorf("it is there: %v", err)
			}
			if err := f.Put(t.Context(), "p/large", []byte("before"), Replace); err != nil {
				t.Fatal(err)
			}
			abandon()
			if got, err := f.Get(t.Context(), "p/large", 100); string(got) != "before" {
				t.Errorf("it is %d bytes now (%v)", len(got), err)
			}
		})
	}
}

// A store that takes no more fails what is sent, soon enough, and has nothing of it.
func TestPartsThatAreNotTaken(t *testing.T) {
	for name, open := range flakyClouds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &flaky{faults: map[int32]fault{}}
			for n := int32(3); n < 100; n++ {
				f.faults[n] = func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusForbidden)
				}
			}
			open(t, f)
			w, err := f.Writer(t.Context(), "p/large", Replace)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = send(w, manyParts); err == nil {
				err = w.Commit(t.Context())
			} else {
				w.Abort()
			}
			if snapshot.ReasonOf(err) != snapshot.ReasonAccessDenied {
				t.Errorf("it is sent: %v", err)
			}
			if left, err := f.List(t.Context(), "p/"); err != nil || len(left) > 0 {
				t.Errorf("left: %v (%v)", left, err)
			}
		})
	}
}
