package clouds

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // Azure's own check of a transfer
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
)

// The account that every emulator of Azure knows.
const (
	AzureAccount = "devstoreaccount1"
	AzureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==" //nolint:gosec // published by Microsoft
)

// Azure is an Azure Blob Storage with one account, as far as backups ask it: block
// blobs, whole or by blocks, in flat lists.
type Azure struct {
	mu         sync.Mutex
	containers map[string]map[string]*blob
	// key of the account, and token that Entra gives out for it.
	key, token string
}

// blob is visible once it has an ETag; before, it is blocks that nobody committed.
type blob struct {
	content  []byte
	etag     string
	modified time.Time
	staged   map[string][]byte
}

// problem is an error in Azure's words.
type problem struct {
	status int
	code   string
}

func (p problem) Error() string { return p.code }

var (
	errNoContainer = problem{http.StatusNotFound, "ContainerNotFound"}
	errNoBlob      = problem{http.StatusNotFound, "BlobNotFound"}
	errExists      = problem{http.StatusConflict, "BlobAlreadyExists"}
	errChanged     = problem{http.StatusPreconditionFailed, "ConditionNotMet"}
	errRange       = problem{http.StatusRequestedRangeNotSatisfiable, "InvalidRange"}
	errBadSum      = problem{http.StatusBadRequest, "Md5Mismatch"}
	errBlockList   = problem{http.StatusBadRequest, "InvalidBlockList"}
	errName        = problem{http.StatusBadRequest, "InvalidResourceName"}
	errUnsupported = problem{http.StatusNotImplemented, "NotImplemented"}
	errSignature   = problem{http.StatusForbidden, "AuthenticationFailed"}
	errIdentity    = problem{http.StatusUnauthorized, "InvalidAuthenticationInfo"}
	errAnonymous   = problem{http.StatusUnauthorized, "NoAuthenticationInformation"}
	errInput       = problem{http.StatusBadRequest, "InvalidInput"}
)

// NewAzure makes a store without a container.
func NewAzure() *Azure {
	return &Azure{containers: map[string]map[string]*blob{}, key: AzureKey, token: "eyJ0." + rand.Text()}
}

// Renew gives the account another key. The one before is taken no more.
func (a *Azure) Renew() (key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key = base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text()))
	return a.key
}

// ServeHTTP serves /ACCOUNT/CONTAINER/BLOB, to those who sign with the account's key or
// bring a token that was signed with it.
func (a *Azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // whoever sent it is gone
	}
	w.Header().Set("x-ms-version", r.Header.Get("x-ms-version"))
	w.Header().Set("x-ms-request-id", rand.Text())
	if err := a.serve(w, r, body); err != nil {
		p, ok := err.(problem) //nolint:errorlint // none is wrapped here
		if !ok {
			p = problem{http.StatusInternalServerError, "InternalError"}
		}
		w.Header().Set("x-ms-error-code", p.code)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(p.status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>%v</Message></Error>`, p.code, err)
		}
	}
}

func (a *Azure) serve(w http.ResponseWriter, r *http.Request, body []byte) error {
	path, ok := strings.CutPrefix(r.URL.Path, "/"+AzureAccount+"/")
	if !ok {
		return errInput
	}
	name, key, ofBlob := strings.Cut(path, "/")
	if err := a.admit(r, name); err != nil {
		return err
	}
	if strings.ToLower(name) != name || len(name) < 3 {
		return errName
	}
	if sum := r.Header.Get("Content-MD5"); sum != "" {
		if got := md5.Sum(body); base64.StdEncoding.EncodeToString(got[:]) != sum { //nolint:gosec // see above
			return errBadSum
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	blobs, exists := a.containers[name]
	if !ofBlob && r.Method == http.MethodPut && r.URL.Query().Get("restype") == "container" {
		return a.create(w, name)
	}
	if !exists {
		return errNoContainer
	}
	if !ofBlob {
		if r.Method == http.MethodGet && r.URL.Query().Get("comp") == "list" {
			return list(w, name, blobs, r.URL.Query())
		}
		return errUnsupported
	}
	return serveBlob(w, r, blobs, key, body)
}

func (a *Azure) create(w http.ResponseWriter, name string) error {
	if _, ok := a.containers[name]; ok {
		return problem{http.StatusConflict, "ContainerAlreadyExists"}
	}
	a.containers[name] = map[string]*blob{}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func serveBlob(w http.ResponseWriter, r *http.Request, blobs map[string]*blob, key string, body []byte) error {
	b := blobs[key]
	switch comp := r.URL.Query().Get("comp"); {
	case r.Method == http.MethodPut && comp == "block":
		if b == nil {
			b = &blob{}
			blobs[key] = b
		}
		if b.staged == nil {
			b.staged = map[string][]byte{}
		}
		b.staged[r.URL.Query().Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
		return nil
	case r.Method == http.MethodPut && comp == "blocklist":
		content, err := assemble(b, body)
		if err != nil {
			return err
		}
		return put(w, r, blobs, key, content)
	case r.Method == http.MethodPut && comp == "" && r.Header.Get("x-ms-blob-type") == "BlockBlob":
		return put(w, r, blobs, key, body)
	case comp != "":
		return errUnsupported
	case b == nil || b.etag == "":
		return errNoBlob
	case r.Method == http.MethodDelete:
		delete(blobs, key)
		w.WriteHeader(http.StatusAccepted)
		return nil
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return get(w, r, b)
	}
	return errUnsupported
}

// assemble is the blob that a list of blocks stands for.
func assemble(b *blob, body []byte) ([]byte, error) {
	var wanted struct {
		Latest []string
	}
	if err := xml.Unmarshal(body, &wanted); err != nil || b == nil {
		return nil, errBlockList
	}
	var content bytes.Buffer
	for _, id := range wanted.Latest {
		block, ok := b.staged[id]
		if !ok {
			return nil, errBlockList
		}
		content.Write(block)
	}
	return content.Bytes(), nil
}

func put(w http.ResponseWriter, r *http.Request, blobs map[string]*blob, key string, content []byte) error {
	old := blobs[key]
	exists := old != nil && old.etag != ""
	if r.Header.Get("If-None-Match") == "*" && exists {
		return errExists
	}
	if match := r.Header.Get("If-Match"); match != "" && (!exists || match != "*" && match != old.etag) {
		return errChanged
	}
	b := &blob{content: content, etag: `"0x` + rand.Text() + `"`, modified: time.Now().UTC()}
	blobs[key] = b
	describe(w, b)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func describe(w http.ResponseWriter, b *blob) {
	w.Header().Set("ETag", b.etag)
	w.Header().Set("Last-Modified", b.modified.Format(http.TimeFormat))
}

func get(w http.ResponseWriter, r *http.Request, b *blob) error {
	if match := r.Header.Get("If-Match"); match != "" && match != "*" && match != b.etag {
		return errChanged
	}
	describe(w, b)
	w.Header().Set("x-ms-blob-type", "BlockBlob")
	w.Header().Set("x-ms-creation-time", b.modified.Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/octet-stream")
	content, status := b.content, http.StatusOK
	wanted := r.Header.Get("x-ms-range")
	if wanted == "" {
		wanted = r.Header.Get("Range")
	}
	if wanted != "" {
		var from, to int
		n, _ := fmt.Sscanf(wanted, "bytes=%d-%d", &from, &to)
		if n == 0 || from >= len(content) {
			return errRange
		}
		if n == 1 || to >= len(content) {
			to = len(content) - 1
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(content)))
		content, status = content[from:to+1], http.StatusPartialContent
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(content)
	}
	return nil
}

// listed is a page of a list, in Azure's form.
type listed struct {
	XMLName    xml.Name    `xml:"EnumerationResults"`
	Container  string      `xml:"ContainerName,attr"`
	Blobs      []blobEntry `xml:"Blobs>Blob"`
	NextMarker string
}

type blobEntry struct {
	Name       string
	Properties struct {
		LastModified string `xml:"Last-Modified"`
		ETag         string `xml:"Etag"`
		Length       int    `xml:"Content-Length"`
		BlobType     string
	}
}

func list(w http.ResponseWriter, container string, blobs map[string]*blob, query url.Values) error {
	if query.Get("delimiter") != "" {
		return errUnsupported
	}
	most, err := strconv.Atoi(query.Get("maxresults"))
	if err != nil {
		most = 5000
	}
	var names []string
	for name, b := range blobs {
		if b.etag != "" && strings.HasPrefix(name, query.Get("prefix")) && name >= query.Get("marker") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	page := listed{Container: container}
	for i, name := range names {
		if i == most {
			page.NextMarker = name
			break
		}
		b, entry := blobs[name], blobEntry{Name: name}
		entry.Properties.LastModified, entry.Properties.ETag = b.modified.Format(http.TimeFormat), b.etag
		entry.Properties.Length, entry.Properties.BlobType = len(b.content), "BlockBlob"
		page.Blobs = append(page.Blobs, entry)
	}
	content, err := xml.Marshal(page)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml")
	_, _ = w.Write(append([]byte(xml.Header), content...))
	return nil
}

// admit lets in whoever has the account's key, a token made with it, or one of Entra's.
func (a *Azure) admit(r *http.Request, container string) error {
	a.mu.Lock()
	accountKey, token := a.key, a.token
	a.mu.Unlock()
	if r.URL.Query().Has("sig") {
		return admitToken(r, container, accountKey)
	}
	given := r.Header.Get("Authorization")
	if given == "" {
		return errAnonymous
	}
	if bearer, ok := strings.CutPrefix(given, "Bearer "); ok {
		if bearer != token {
			return errIdentity
		}
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(accountKey)
	if err != nil {
		return fmt.Errorf("decoding the account's key: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(toSign(r)))
	want := "SharedKey " + AzureAccount + ":" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(given), []byte(want)) {
		return errSignature
	}
	return nil
}

// toSign is the text of a request that the key signs: learn.microsoft.com,
// "Authorize with Shared Key".
func toSign(r *http.Request) string {
	lines := []string{r.Method}
	for _, header := range []string{
		"Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date",
		"If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range",
	} {
		value := r.Header.Get(header)
		if header == "Content-Length" {
			value = ""
			if r.ContentLength > 0 {
				value = strconv.FormatInt(r.ContentLength, 10)
			}
		}
		lines = append(lines, value)
	}
	var own []string
	for name, values := range r.Header {
		if name := strings.ToLower(name); strings.HasPrefix(name, "x-ms-") {
			own = append(own, name+":"+strings.Join(values, ","))
		}
	}
	slices.Sort(own)
	lines = append(append(lines, own...), "/"+AzureAccount+r.URL.EscapedPath())
	var parameters []string
	for name, values := range r.URL.Query() {
		slices.Sort(values)
		parameters = append(parameters, strings.ToLower(name)+":"+strings.Join(values, ","))
	}
	slices.Sort(parameters)
	return strings.Join(append(lines, parameters...), "\n")
}

// admitToken checks a token of shared access by signing what it says again.
func admitToken(r *http.Request, container, key string) error {
	parsed, err := sas.ParseURL("http://" + r.Host + r.URL.RequestURI())
	if err != nil {
		return errSignature
	}
	given := parsed.SAS
	credential, err := azblob.NewSharedKeyCredential(AzureAccount, key)
	if err != nil {
		return fmt.Errorf("reading the account's key: %w", err)
	}
	want, err := sas.BlobSignatureValues{
		Version: given.Version(), Protocol: given.Protocol(), StartTime: given.StartTime(), ExpiryTime: given.ExpiryTime(),
		Permissions: given.Permissions(), ContainerName: container,
	}.SignWithSharedKey(credential)
	if err != nil || want.Signature() != given.Signature() || time.Now().After(given.ExpiryTime()) {
		return errSignature
	}
	return nil
}
