package snapshot

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/snapshot"
)

// A store behind TLS is used with its own authority, and with no other.
func TestAStoreWithItsOwnAuthority(t *testing.T) {
	source := startEtcd(t, "3.6.16")
	gateway, dir := startGateway(t)
	parsed, err := url.Parse(gateway)
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(dir, "backups"))
	proxy := httptest.NewTLSServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(parsed); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	})
	t.Cleanup(proxy.Close)
	authority := filepath.Join(t.TempDir(), "ca.crt")
	write(t, authority, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})))
	store := bucket{dir: filepath.Join(dir, "backups"), flags: s3Flags(t, proxy.URL)}
	for name, flags := range map[string][]string{
		"the system's authorities": {"--attempts=1"},
		"another authority":        {"--attempts=1", "--store-ca=" + newKeyPair(t).certFile},
	} {
		t.Run(name, func(t *testing.T) {
			failed := store.save(t, source, flags...).mustFail(t, snapshot.ReasonStoreUntrusted)
			if message := failed.result.Message; !strings.Contains(message, "--store-ca") || strings.Contains(message, accessKey) {
				t.Errorf("message: %s", message)
			}
		})
	}
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, "")
	store.save(t, source, "--store-ca="+empty).mustFail(t, snapshot.ReasonCredentialsMissing)
	if left := tree(t, store.dir); len(left) > 0 {
		t.Errorf("something was left: %v", left)
	}
	store.save(t, source, "--store-ca="+authority).mustSucceed(t)
	store.drill(t, "3.6.16", "--store-ca="+authority).mustSucceed(t)
}
