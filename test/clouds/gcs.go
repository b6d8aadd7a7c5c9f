package clouds

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// GCS is a Google Cloud Storage with one service account.
type GCS struct {
	// Server holds the buckets; it lets everybody in.
	Server *fakestorage.Server

	address string

	mu    sync.Mutex
	key   *rsa.PrivateKey
	token string
	// uploads are the last part of each.
	uploads map[string]sent
}

// TokenPath is where a service account's signed claim is exchanged for a token.
const TokenPath = "/oauth2/token"

// NewGCS makes a store that will be reached at an address, HOST:PORT.
func NewGCS(address string) (*GCS, error) {
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, ExternalURL: "http://" + address, PublicHost: address})
	if err != nil {
		return nil, fmt.Errorf("starting the fake of Google Cloud Storage: %w", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making the key of a service account: %w", err)
	}
	return &GCS{Server: server, address: address, key: key, token: "ya29." + rand.Text(), uploads: map[string]sent{}}, nil
}

// ServiceAccount is the JSON key that Google hands out for the account.
func (g *GCS) ServiceAccount() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accountWith(g.key)
}

// Renew gives the account another key. The one before, and the tokens that were given out for
// it, are taken no more.
func (g *GCS) Renew() (account []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making another key of the service account: %w", err)
	}
	g.mu.Lock()
	g.key, g.token = key, "ya29."+rand.Text()
	g.mu.Unlock()
	return g.ServiceAccount()
}

// now are the account's key and its token.
func (g *GCS) now() (*rsa.PrivateKey, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.key, g.token
}

// StrangersAccount is one whose key the store has never seen.
func (g *GCS) StrangersAccount() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making a stranger's key: %w", err)
	}
	return g.accountWith(key)
}

func (g *GCS) accountWith(key *rsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key of a service account: %w", err)
	}
	content, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "test", "private_key_id": "1", "client_id": "1",
		"client_email": "backups@test.iam.gserviceaccount.com", "token_uri": "http://" + g.address + TokenPath,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		return nil, fmt.Errorf("encoding a service account: %w", err)
	}
	return content, nil
}

// ServeHTTP serves the API of objects, to those who bring a token of the account, and
// the tokens.
func (g *GCS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, token := g.now()
	switch {
	case r.URL.Path == TokenPath:
		g.serveToken(w, r)
	case r.Header.Get("Authorization") != "Bearer "+token:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"code":401,"message":"Invalid Credentials","errors":[{"reason":"authError","message":"Invalid Credentials"}]}}`)
	case strings.HasPrefix(r.URL.Path, "/upload/"):
		g.serveUpload(&inWords{ResponseWriter: w, words: func() (string, string) { return g.inJSON(r) }}, r)
	case strings.HasPrefix(r.URL.Path, "/storage/"):
		g.Server.HTTPHandler().ServeHTTP(&inWords{ResponseWriter: w, words: func() (string, string) { return g.inJSON(r) }}, r)
	default:
		g.Server.HTTPHandler().ServeHTTP(&inWords{ResponseWriter: w, words: func() (string, string) { return g.inXML(r) }}, r)
	}
}

// sent is a part of an upload, and how it was answered.
type sent struct {
	span   string
	answer *httptest.ResponseRecorder
}

// serveUpload answers a part that was sent before as it was answered then: whoever lost the
// answer sends it again, and Google does not put it behind itself.
func (g *GCS) serveUpload(w http.ResponseWriter, r *http.Request) {
	upload, span := r.URL.Query().Get("upload_id"), r.Header.Get("Content-Range")
	if upload == "" || span == "" {
		g.Server.HTTPHandler().ServeHTTP(w, r)
		return
	}
	g.mu.Lock()
	last := g.uploads[upload]
	g.mu.Unlock()
	if last.span != span {
		last = sent{span: span, answer: httptest.NewRecorder()}
		g.Server.HTTPHandler().ServeHTTP(last.answer, r)
		if last.answer.Code < http.StatusBadRequest {
			g.mu.Lock()
			g.uploads[upload] = last
			g.mu.Unlock()
		}
	}
	maps.Copy(w.Header(), last.answer.Header())
	w.WriteHeader(last.answer.Code)
	_, _ = w.Write(last.answer.Body.Bytes()) // whoever asked is gone if it fails
}

// inWords says of what is missing what Google does, where the server says no more than the
// status.
type inWords struct {
	http.ResponseWriter

	// words are of what kind, and which.
	words   func() (kind, words string)
	missing bool
}

func (w *inWords) WriteHeader(status int) {
	if w.missing = status == http.StatusNotFound; !w.missing {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	kind, words := w.words()
	w.Header().Set("Content-Type", kind)
	w.ResponseWriter.WriteHeader(status)
	fmt.Fprint(w.ResponseWriter, words)
}

func (w *inWords) Write(p []byte) (int, error) {
	if w.missing {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// inXML is what Google says through the API that objects are read through: /BUCKET/OBJECT.
func (g *GCS) inXML(r *http.Request) (kind, words string) {
	bucket, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	code, message := "NoSuchKey", "The specified key does not exist."
	if !g.has(bucket) {
		code, message = "NoSuchBucket", "The specified bucket does not exist."
	}
	return "application/xml; charset=UTF-8", fmt.Sprintf("<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}

// inJSON is what Google says through the API of all else: /storage/v1/b/BUCKET/o/OBJECT.
func (g *GCS) inJSON(r *http.Request) (kind, words string) {
	_, path, _ := strings.Cut(r.URL.Path, "/b/")
	bucket, object, _ := strings.Cut(path, "/o/")
	message := "Not Found"
	switch {
	case !g.has(strings.TrimSuffix(bucket, "/o")):
		message = "The specified bucket does not exist."
	case object != "":
		message = "No such object: " + bucket + "/" + object
	}
	return "application/json; charset=UTF-8", fmt.Sprintf(`{"error":{"code":404,"message":%q,"errors":[{"message":%q,"domain":"global","reason":"notFound"}]}}`, message, message)
}

func (g *GCS) has(bucket string) bool {
	_, err := g.Server.ListObjectsWithOptionsPaginated(bucket, fakestorage.ListOptions{MaxResults: 1})
	return err == nil
}

func (g *GCS) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if !g.signed(r.FormValue("assertion")) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`)
		return
	}
	g.giveToken(w)
}

func (g *GCS) giveToken(w http.ResponseWriter) {
	_, token := g.now()
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3599}`, token)
}

// signed says whether the account's key signed the claim.
func (g *GCS) signed(claim string) bool {
	parts := strings.Split(claim, ".")
	if len(parts) != 3 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	key, _ := g.now()
	return rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], signature) == nil
}
