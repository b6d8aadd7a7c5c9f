package store

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/clouds"
)

// nginx is what that answers for what it does not know: HTML that is no XML.
const nginx = "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n<center><h1>404 Not Found</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"

// stranger answers instead of the store, as what stands before it.
func stranger(kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, body)
	}
}

var proxies = map[string]http.HandlerFunc{
	"nothing said":    stranger("", ""),
	"a proxy's page":  stranger("text/html", nginx),
	"an ingress":      stranger("text/plain", "default backend - 404"),
	"a page in XHTML": stranger("text/html", "<html><body><h1>Not Found</h1></body></html>"),
	"a gateway":       stranger("application/json", `{"message":"no Route matched with those values"}`),
}

// fronted is a store as it is reached through something that may answer in its place.
type fronted struct {
	config Config
	// own says in the store's own words that an object is not there, and bucketless that the
	// bucket is not.
	own, bucketless http.HandlerFunc
	// front answers, but for what has nothing to do with objects.
	front atomic.Pointer[http.HandlerFunc]
	heads atomic.Int32
}

func (f *fronted) serve(t *testing.T, beside http.Handler) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == clouds.TokenPath {
			beside.ServeHTTP(w, r)
			return
		}
		if r.Method == http.MethodHead {
			f.heads.Add(1)
		}
		(*f.front.Load())(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func mounted(t *testing.T, secret map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for key, value := range secret {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func frontedS3(t *testing.T) *fronted {
	t.Helper()
	f := &fronted{own: stranger("application/xml", `<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message><Key>x</Key></Error>`)}
	f.bucketless = stranger("application/xml", `<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message><BucketName>backups</BucketName></Error>`)
	f.config = Config{
		URL: "s3://backups", Endpoint: f.serve(t, nil), S3PathStyle: true,
		Credentials: mounted(t, map[string]string{snapshot.CredentialS3KeyID: "x", snapshot.CredentialS3Key: "x"}),
	}
	return f
}

// inGoogles are the words of both of Google's APIs for what is not there.
func inGoogles(message, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/storage/v1/") {
			stranger("application/json", fmt.Sprintf(`{"error":{"code":404,"message":%q,"errors":[{"message":%q,"domain":"global","reason":"notFound"}]}}`, message, message))(w, r)
			return
		}
		stranger("application/xml", fmt.Sprintf("<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code><Message>It does not exist.</Message></Error>", code))(w, r)
	}
}

func frontedGCS(t *testing.T) *fronted {
	t.Helper()
	f := &fronted{own: inGoogles("No such object: backups/x", "NoSuchKey"), bucketless: inGoogles("The specified bucket does not exist.", "NoSuchBucket")}
	var tokens *clouds.GCS
	endpoint := f.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tokens.ServeHTTP(w, r) }))
	var err error
	if tokens, err = clouds.NewGCS(strings.TrimPrefix(endpoint, "http://")); err != nil {
		t.Fatal(err)
	}
	account, err := tokens.ServiceAccount()
	if err != nil {
		t.Fatal(err)
	}
	f.config = Config{URL: "gs://backups", Endpoint: endpoint, Credentials: mounted(t, map[string]string{snapshot.CredentialGCS: string(account)})}
	return f
}

func inAzures(code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-ms-error-code", code)
		stranger("application/xml", fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>It does not exist.</Message></Error>`, code))(w, r)
	}
}

func frontedAzure(t *testing.T) *fronted {
	t.Helper()
	f := &fronted{own: inAzures("BlobNotFound"), bucketless: inAzures("ContainerNotFound")}
	f.config = Config{
		URL: "azblob://backups", Endpoint: f.serve(t, nil) + "/" + clouds.AzureAccount, AzureAccount: clouds.AzureAccount,
		Credentials: mounted(t, map[string]string{snapshot.CredentialAzureKey: clouds.AzureKey}),
	}
	return f
}

// What a store says is missing is, and what stands before it knows nothing of that: a proxy
// whose store is being replaced would have backups taken for lost, and objects for deleted.
func TestWhoSaysThatItIsMissing(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *fronted{"S3": frontedS3, "GCS": frontedGCS, "Azure": frontedAzure} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			s, err := Open(t.Context(), f.config)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			f.front.Store(&f.own)
			if _, err := s.Get(t.Context(), "p/x", 1); !errors.Is(err, ErrNotExist) {
				t.Errorf("reading what is missing: %v", err)
			}
			if err := s.Delete(t.Context(), "p/x"); err != nil {
				t.Errorf("deleting what is missing: %v", err)
			}
			for who, answers := range proxies {
				f.front.Store(&answers)
				for doing, do := range everything(t, s) {
					if err := do(); errors.Is(err, ErrNotExist) || snapshot.ReasonOf(err) != snapshot.ReasonStoreUnreachable {
						t.Errorf("%s through %s: %v", doing, who, err)
					}
				}
			}
			if n := f.heads.Load(); n > 0 {
				t.Errorf("it was asked %d times in a way whose answer has no words", n)
			}
		})
	}
}

// everything that a store is asked for.
func everything(t *testing.T, s *Store) map[string]func() error {
	t.Helper()
	return map[string]func() error{
		"reading":  func() error { _, err := s.Get(t.Context(), "p/x", 1); return err },
		"deleting": func() error { return s.Delete(t.Context(), "p/x") },
		"listing":  func() error { _, err := s.List(t.Context(), "p/"); return err },
		"writing":  func() error { return s.Put(t.Context(), "p/x", []byte("x"), Replace) },
	}
}

// A bucket that is missing says nothing of its objects: a backup would be condemned, and what
// it needs deleted, because of a name that is misspelt or a bucket that is made anew.
func TestWhoSaysThatItIsMissingOfABucket(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *fronted{"S3": frontedS3, "GCS": frontedGCS, "Azure": frontedAzure} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			s, err := Open(t.Context(), f.config)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			f.front.Store(&f.bucketless)
			for doing, do := range everything(t, s) {
				if err := do(); errors.Is(err, ErrNotExist) || snapshot.ReasonOf(err) != snapshot.ReasonBucketMissing {
					t.Errorf("%s: %v", doing, err)
				}
			}
		})
	}
}

// Google may say no more than that something is not there. Then the bucket is asked for.
func TestWhoSaysThatItIsMissingAtGoogle(t *testing.T) {
	t.Parallel()
	something := inGoogles("Not Found", "")
	for name, tc := range map[string]struct {
		listed http.HandlerFunc
		want   snapshot.Reason // empty: the object is missing
	}{
		"the bucket is there":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"kind":"storage#objects"}`) }, ""},
		"it is not there either": {something, snapshot.ReasonBucketMissing},
		"a proxy does not know":  {stranger("text/html", nginx), snapshot.ReasonStoreUnreachable},
		"it may not be listed":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, snapshot.ReasonStoreUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := frontedGCS(t)
			s, err := Open(t.Context(), f.config)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			front := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && r.URL.Path == "/storage/v1/b/backups/o" {
					tc.listed(w, r)
					return
				}
				something(w, r)
			})
			f.front.Store(&front)
			if err := s.Delete(t.Context(), "p/x"); (err == nil) != (tc.want == "") || err != nil && snapshot.ReasonOf(err) != tc.want {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// A Secret or a token that is not there is no missing object either.
func TestAMissingFileIsNoMissingObject(t *testing.T) {
	cloud, directory := &Store{}, &Store{directory: t.TempDir()}
	_, err := os.Open(filepath.Join(directory.directory, "none"))
	if cloud.isMissing(err) || !directory.isMissing(err) {
		t.Errorf("missing in a cloud: %v, in a directory: %v", cloud.isMissing(err), directory.isMissing(err))
	}
}
