package snapshot

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/fsouza/fake-gcs-server/fakestorage"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/clouds"
	"github.com/quorate/quorate/test/freeport"
)

// cloud is a store of a public cloud, served on the loopback.
type cloud struct {
	bucket

	// endpoint is where the store is.
	endpoint string
	// google is the store behind it, if it is Google's.
	google *clouds.GCS
	// store without --credentials, and with another name.
	withoutSecret, missing []string
	// secrets that the store refuses, or that are none, and those that it takes.
	refused map[string]refusal
	taken   map[string]string
	// read, write and names of objects, past all faults.
	read  func(key string) []byte
	write func(key string, content []byte)
	names func() []string
	// renew has the store take other credentials only than those of the Secret, which is in
	// a file; put them there to have them used.
	renew func() (content string)
	file  string
}

// refusal of a Secret.
type refusal struct {
	secret string
	reason snapshot.Reason
}

// cloudsUnderTest open one store each, behind a fault.
var cloudsUnderTest = map[string]func(t *testing.T, broken fault) cloud{"GCS": gcs, "Azure": azure}

// eachCloud runs a test for every cloud, or for Azure alone against Microsoft's own
// emulator.
func eachCloud(t *testing.T, test func(t *testing.T, open func(t *testing.T, broken fault) cloud)) {
	t.Helper()
	for name, open := range cloudsUnderTest {
		if name == "GCS" && os.Getenv("QUORATE_AZURITE") != "" {
			continue
		}
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

func whole(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }

// secretOf is a mounted Secret.
func secretOf(t testing.TB, key, value string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, key), value)
	return dir
}

// serveBroken serves a handler behind a fault.
func serveBroken(t *testing.T, broken fault, handler func(address string) http.Handler) (endpoint string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	next := handler(server.Listener.Addr().String())
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { broken(w, r, next) })
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

func gcs(t *testing.T, broken fault) cloud {
	t.Helper()
	var store *clouds.GCS
	endpoint := serveBroken(t, broken, func(address string) http.Handler {
		var err error
		if store, err = clouds.NewGCS(address); err != nil {
			t.Fatal(err)
		}
		return store
	})
	store.Server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: "backups"})
	account, err := store.ServiceAccount()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := store.StrangersAccount()
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"--store-endpoint=" + endpoint, "--store=gs://backups"}
	good := secretOf(t, snapshot.CredentialGCS, string(account))
	c := cloud{bucket: bucket{flags: append(slices.Clone(flags), "--credentials="+good)}, endpoint: endpoint, google: store, withoutSecret: flags}
	c.file = filepath.Join(good, snapshot.CredentialGCS)
	c.renew = func() string {
		renewed, err := store.Renew()
		if err != nil {
			t.Error(err)
		}
		return string(renewed)
	}
	c.missing = []string{"--store=gs://nobody-made-it"}
	c.refused = map[string]refusal{
		"another account's key": {secretOf(t, snapshot.CredentialGCS, string(stranger)), snapshot.ReasonAccessDenied},
		"half a key":            {secretOf(t, snapshot.CredentialGCS, string(account[:len(account)/2])), snapshot.ReasonCredentialsMissing},
		"a key that is none":    {secretOf(t, snapshot.CredentialGCS, `{"type":"service_account","private_key":"none"}`), snapshot.ReasonCredentialsMissing},
		"another type":          {secretOf(t, snapshot.CredentialGCS, `{"type":"authorized_user"}`), snapshot.ReasonCredentialsMissing},
		"an empty Secret":       {secretOf(t, snapshot.CredentialGCS, ""), snapshot.ReasonCredentialsMissing},
	}
	c.read = func(key string) []byte {
		o, err := store.Server.GetObject("backups", key)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		return o.Content
	}
	c.write = func(key string, content []byte) {
		store.Server.CreateObject(fakestorage.Object{ObjectAttrs: fakestorage.ObjectAttrs{BucketName: "backups", Name: key}, Content: content})
	}
	c.names = func() (names []string) {
		page, err := store.Server.ListObjectsWithOptionsPaginated("backups", fakestorage.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Objects {
			names = append(names, o.Name)
		}
		return names
	}
	return c
}

// azurite starts Microsoft's own emulator.
func azurite(t *testing.T, program string) http.Handler {
	t.Helper()
	address := freeport.Address(t)
	_, port, _ := strings.Cut(address, ":")
	dir := t.TempDir()
	p := start(t, filepath.Join(dir, "log"), exec.Command("node", program, "--blobPort", port, "--location", dir, "--silent", "--disableTelemetry", "--skipApiVersionCheck"))
	eventually(t, time.Minute, "azurite does not serve", func() error {
		select {
		case <-p.done:
			content, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("azurite ended: %s", content)
		default:
		}
		r, err := http.Get("http://" + address)
		if err != nil {
			return err
		}
		return r.Body.Close()
	})
	target := &url.URL{Scheme: "http", Host: address}
	return &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
}

func azure(t *testing.T, broken fault) cloud {
	t.Helper()
	var store http.Handler = clouds.NewAzure()
	if program := os.Getenv("QUORATE_AZURITE"); program != "" {
		store = azurite(t, program)
	}
	direct := serveBroken(t, whole, func(string) http.Handler { return store }) + "/" + clouds.AzureAccount
	endpoint := serveBroken(t, broken, func(string) http.Handler { return store }) + "/" + clouds.AzureAccount
	key := sharedKey(t)
	client, err := container.NewClientWithSharedKeyCredential(direct+"/backups", key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--store-endpoint=" + endpoint, "--store=azblob://backups", "--azure-account=" + clouds.AzureAccount}
	good := secretOf(t, snapshot.CredentialAzureKey, clouds.AzureKey)
	c := cloud{bucket: bucket{flags: append(slices.Clone(flags), "--credentials="+good)}, endpoint: endpoint, withoutSecret: flags}
	c.file = filepath.Join(good, snapshot.CredentialAzureKey)
	if own, ok := store.(*clouds.Azure); ok {
		c.renew = func() string {
			renewed := own.Renew()
			if err := key.SetAccountKey(renewed); err != nil {
				t.Error(err)
			}
			return renewed
		}
	}
	c.missing = []string{"--store=azblob://nobody-made-it"}
	wrong := strings.Replace(clouds.AzureKey, "Eby8", "Fby8", 1)
	c.refused = map[string]refusal{
		"another key":             {secretOf(t, snapshot.CredentialAzureKey, wrong), snapshot.ReasonAccessDenied},
		"a key that is none":      {secretOf(t, snapshot.CredentialAzureKey, "not base64!"), snapshot.ReasonCredentialsMissing},
		"an empty Secret":         {secretOf(t, snapshot.CredentialAzureKey, ""), snapshot.ReasonCredentialsMissing},
		"a token that is expired": {secretOf(t, snapshot.CredentialAzureSAS, token4(t, key, -time.Hour)), snapshot.ReasonAccessDenied},
		"a token that is none":    {secretOf(t, snapshot.CredentialAzureSAS, "sv=2024-01-01&sr=c&sig=x"), snapshot.ReasonAccessDenied},
	}
	c.taken = map[string]string{
		"a token of shared access":         secretOf(t, snapshot.CredentialAzureSAS, token4(t, key, time.Hour)),
		"a token with its question mark":   secretOf(t, snapshot.CredentialAzureSAS, "?"+token4(t, key, time.Hour)+"\n"),
		"a key with a line's end after it": secretOf(t, snapshot.CredentialAzureKey, clouds.AzureKey+"\n"),
	}
	c.accessAzure(t, client)
	return c
}

// token4 is a token of shared access to the container for a time.
func token4(t *testing.T, key *container.SharedKeyCredential, life time.Duration) string {
	t.Helper()
	values, err := sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, StartTime: time.Now().Add(-2 * time.Hour), ExpiryTime: time.Now().Add(life).UTC(),
		Permissions: (&sas.ContainerPermissions{Read: true, Write: true, Create: true, Delete: true, List: true}).String(), ContainerName: "backups",
	}.SignWithSharedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return values.Encode()
}

func (c *cloud) accessAzure(t *testing.T, client *container.Client) {
	c.read = func(key string) []byte {
		r, err := client.NewBlobClient(key).DownloadStream(t.Context(), nil)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		defer r.Body.Close()
		content, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	c.write = func(key string, content []byte) {
		if _, err := client.NewBlockBlobClient(key).UploadStream(t.Context(), bytes.NewReader(content), nil); err != nil {
			t.Fatal(err)
		}
	}
	c.names = func() (names []string) {
		for pages := client.NewListBlobsFlatPager(nil); pages.More(); {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range page.Segment.BlobItems {
				names = append(names, *b.Name)
			}
		}
		return names
	}
}

// refuse answers in the form of both clouds.
func refuse(status int, code string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("x-ms-error-code", code)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"code":%d,"message":%q}}`, status, code+", made by the test")
	}
}

func intoCloud(r *http.Request) bool {
	return (r.Method == http.MethodPut || r.Method == http.MethodPost) && strings.Contains(r.URL.Path, "/backups")
}

// contentIntoCloud is long enough for a part of a snapshot, and does not only say what follows.
func contentIntoCloud(r *http.Request) bool {
	return intoCloud(r) && (r.ContentLength > 1<<20 || r.ContentLength < 0)
}

func fromCloud(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+snapshot.SnapshotObject)
}

func removal(r *http.Request) bool { return r.Method == http.MethodDelete }
