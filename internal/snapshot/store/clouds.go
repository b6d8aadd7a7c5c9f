package store

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/storage"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/googleapis/gax-go/v2"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"

	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// connectTimeout and answerTimeout bound how long is waited, which the SDKs do for half a
	// minute, or without end: an address where nobody is takes what is sent there and says
	// nothing. Whoever moves bytes watches that they move.
	connectTimeout = 10 * time.Second
	answerTimeout  = 2 * time.Minute
	// keepAlive is how often an idle connection is looked at, as Go's own transport does.
	keepAlive = 30 * time.Second
	gcsScope  = "https://www.googleapis.com/auth/devstorage.read_write"
	// gcsPath is where the JSON API is at each of its hosts.
	gcsPath = "/storage/v1/"
	// retryPause is about how long Google's client waits the first time, and
	// mostRetryPause at the most.
	retryPause     = 500 * time.Millisecond
	mostRetryPause = 10 * time.Second
	// tokenAttempts is how often a token is asked for in one go.
	tokenAttempts = 3
)

// dialer gives up on an address that does not answer sooner than Go's own.
func dialer() *net.Dialer { return &net.Dialer{Timeout: connectTimeout, KeepAlive: keepAlive} }

// transportOptions trust the authorities in the file, or the system's, and keep to the rate.
func transportOptions(c Config) (func(*http.Transport), error) {
	var roots *x509.CertPool
	if c.CA != "" {
		content, err := os.ReadFile(c.CA)
		roots = x509.NewCertPool()
		if err != nil || !roots.AppendCertsFromPEM(content) {
			return nil, snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "%s holds no certificate in PEM — the store's certificate cannot be verified — correct it", c.CA)
		}
	}
	sending := paceOf(c.SendRate)
	return func(t *http.Transport) {
		t.DialContext = sending.dial
		t.TLSHandshakeTimeout = connectTimeout
		t.ResponseHeaderTimeout = answerTimeout
		t.MaxIdleConnsPerHost = partsInFlight + 2
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}, nil
}

func httpClient(c Config) (*http.Client, error) {
	options, err := transportOptions(c)
	if err != nil {
		return nil, err
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the default transport of HTTP was replaced")
	}
	transport = transport.Clone()
	options(transport)
	return &http.Client{Transport: transport}, nil
}

func (s *Store) openGCS(ctx context.Context, c Config, bucket string) error {
	client, err := httpClient(c)
	if err != nil {
		return err
	}
	authorized, err := authorizeGCS(ctx, c, client.Transport)
	if err != nil {
		return err
	}
	var options []option.ClientOption
	if c.Endpoint != "" {
		endpoint, err := gcsEndpoint(c.Endpoint)
		if err != nil {
			return err
		}
		options = append(options, option.WithEndpoint(endpoint))
	}
	s.bucket, err = gcsblob.OpenBucket(ctx, &gcp.HTTPClient{Client: http.Client{Transport: patient{base: noticing{store: s, base: ownWords{base: authorized, bucket: bucket}}}}}, bucket, &gcsblob.Options{ClientOptions: options})
	if err != nil {
		return usage("the store is %q", s.name)
	}
	var api *storage.Client
	if s.bucket.As(&api) {
		// What we write again is the same, and what we delete stays deleted: without
		// this an upload's first request and a deletion are tried once, and a part of an upload
		// whose connection is closed ends all of it.
		api.SetRetry(storage.WithPolicy(storage.RetryAlways), storage.WithErrorFunc(storage.ShouldRetry), storage.WithBackoff(gax.Backoff{Initial: retryPause, Max: mostRetryPause, Multiplier: 2}))
	}
	return nil
}

// maxAnswer is what is read of an answer that says that something is not there, in bytes.
const maxAnswer = 64 << 10

// ownWords is a transport that lets an answer pass which says that something is not there
// only if it is Google's, and says so of an object: their client looks at nothing but the
// status, with which a proxy answers as well that does not know the store, and Google itself
// for a bucket that is gone with all its objects, or that is another one's name.
type ownWords struct {
	base   http.RoundTripper
	bucket string
}

// errNoBucket is what Google says of a bucket that is not there, whatever of it was asked for.
var errNoBucket = errors.New("the specified bucket does not exist")

func (t ownWords) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.base.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusNotFound {
		return answer, err
	}
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	_ = answer.Body.Close() // what was read of it counts
	if err != nil {
		return nil, err
	}
	switch missingIn(said) {
	case bucketIsMissing:
		return nil, errNoBucket
	case somethingIsMissing:
		err = t.askForBucket(r)
	case nothingIsMissing:
		err = fmt.Errorf("%s, and not in Google's words", answer.Status)
	case objectIsMissing:
	}
	if err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(said))
	return answer, nil
}

// askForBucket says whether the bucket is there of whose object Google has said no more than
// that something is not. It asks for a list: whoever keeps backups may do that, and need not
// be allowed to ask for the bucket.
func (t ownWords) askForBucket(r *http.Request) error {
	api, _, ofObject := strings.Cut(r.URL.EscapedPath(), "/b/"+t.bucket+"/o/")
	if !ofObject {
		return nil // no object was asked for, so none is missing
	}
	list := *r.URL
	list.Path, list.RawPath, list.RawQuery = api+"/b/"+t.bucket+"/o", "", "alt=json&maxResults=1"
	asked, err := http.NewRequestWithContext(r.Context(), http.MethodGet, list.String(), http.NoBody)
	if err != nil {
		return err
	}
	answer, err := t.base.RoundTrip(asked)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case answer.StatusCode == http.StatusOK:
		return nil
	case answer.StatusCode == http.StatusNotFound && missingIn(said) != nothingIsMissing:
		return errNoBucket
	default:
		return fmt.Errorf("%s for the bucket of what is missing", answer.Status)
	}
}

// missingThing is what Google says is not there.
type missingThing int

const (
	// nothingIsMissing: it is not Google that says so.
	nothingIsMissing missingThing = iota
	// somethingIsMissing may be the object, or the bucket.
	somethingIsMissing
	objectIsMissing
	bucketIsMissing
)

// missingIn knows the words of both of Google's APIs: objects are read through that of XML,
// and all else is asked through that of JSON.
func missingIn(said []byte) missingThing {
	var words struct{ Code string }
	if xml.Unmarshal(said, &words) == nil && words.Code != "" {
		return map[string]missingThing{"NoSuchKey": objectIsMissing, "NoSuchBucket": bucketIsMissing}[words.Code]
	}
	var wrapped struct {
		Error struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(said, &wrapped) != nil || wrapped.Error.Code != http.StatusNotFound {
		return nothingIsMissing
	}
	switch message := strings.ToLower(wrapped.Error.Message); {
	case strings.HasPrefix(message, "no such object: "):
		return objectIsMissing
	case strings.HasPrefix(message, errNoBucket.Error()):
		return bucketIsMissing
	default:
		return somethingIsMissing
	}
}

// gcsEndpoint is the address of the JSON API at a host, which the client takes
// literally: without the path, and the slash after it, it asks for what is nowhere.
func gcsEndpoint(given string) (string, error) {
	parsed, err := url.Parse(given)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return "", endpointUsage(given)
	}
	if strings.Trim(parsed.Path, "/") == "" {
		parsed.Path = gcsPath
	}
	parsed.Path = strings.TrimSuffix(parsed.Path, "/") + "/"
	return parsed.String(), nil
}

func endpointUsage(given string) error {
	return snapshot.Fail(snapshot.ReasonUsage, nil, "the store's endpoint is %q — nothing can be reached there — give the URL of a host, such as https://storage.example.com", given)
}

// authorizeGCS is a transport that shows who asks.
func authorizeGCS(ctx context.Context, c Config, transport http.RoundTripper) (http.RoundTripper, error) {
	if c.Credentials == "" {
		// It is Google's own hosts that vouch for the pod, whatever authority the store has.
		plain, err := httpClient(Config{})
		if err != nil {
			return nil, err
		}
		found, err := gcp.DefaultCredentials(tokenContext(ctx, plain.Transport))
		if err != nil {
			return nil, noCredentials(c, err)
		}
		return &oauth2.Transport{Base: transport, Source: found.TokenSource}, nil
	}
	ctx = tokenContext(ctx, transport)
	if _, err := accountFrom(ctx, c.Credentials); err != nil {
		return nil, noCredentials(c, err)
	}
	tokens := &tokens{fetch: func() (*oauth2.Token, error) {
		source, err := accountFrom(ctx, c.Credentials)
		if err != nil {
			return nil, noCredentials(c, err)
		}
		return source.Token()
	}}
	return forgetting{base: &oauth2.Transport{Base: transport, Source: tokens}, tokens: tokens}, nil
}

// accountFrom reads the key of a service account from a mounted Secret.
func accountFrom(ctx context.Context, dir string) (oauth2.TokenSource, error) {
	key, err := credential(dir, snapshot.CredentialGCS)
	if err != nil {
		return nil, err
	}
	credentials, err := google.CredentialsFromJSONWithType(ctx, []byte(key), google.ServiceAccount, gcsScope)
	if err != nil {
		return nil, err
	}
	return credentials.TokenSource, checkKey(key)
}

func noCredentials(c Config, err error) error {
	if failure, ok := errors.AsType[*snapshot.Failure](err); ok {
		return failure
	}
	if c.Credentials == "" {
		return noIdentity(c, err)
	}
	// The parser's words could quote the key.
	return snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "there are no usable credentials for %s — the store cannot be asked — %s", c.URL,
		"put the JSON key of a service account into the Secret's key "+snapshot.CredentialGCS+", or give the pod a workload identity")
}

// noIdentity is of a pod that is to show its own, and has none.
func noIdentity(c Config, err error) error {
	return snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "the pod has no identity to show to %s — the store cannot be asked — %s", c.URL, withoutCredentials)
}

// tokens keeps a token for as long as it lives, and is taken by the store.
type tokens struct {
	fetch func() (*oauth2.Token, error)

	mu   sync.Mutex
	kept *oauth2.Token
}

// Token has the key of the account read again for every token.
func (t *tokens) Token() (*oauth2.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept.Valid() {
		return t.kept, nil
	}
	token, err := t.fetch()
	if err == nil {
		t.kept = token
	}
	return token, err
}

// forget the token that a request was sent with.
func (t *tokens) forget(r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept != nil && strings.HasSuffix(r.Header.Get("Authorization"), " "+t.kept.AccessToken) {
		t.kept = nil
	}
}

// forgetting forgets a token that the store does not take: the next one may be another
// account's, whose key is in the Secret since.
type forgetting struct {
	base   http.RoundTripper
	tokens *tokens
}

func (f forgetting) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := f.base.RoundTrip(r)
	if err == nil && answer.StatusCode == http.StatusUnauthorized && answer.Request != nil {
		f.tokens.forget(answer.Request)
	}
	return answer, err
}

// checkKey parses the key that a service account signs with. Google's client does when
// it fetches a token, and its error then looks like one of the way to the store.
func checkKey(account string) error {
	var content struct {
		PrivateKey string `json:"private_key"`
	}
	if err := json.Unmarshal([]byte(account), &content); err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(content.PrivateKey))
	if block == nil {
		return errors.New("the private key is not PEM")
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		_, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		return err
	}
	return nil
}

// repeating sends a request for a token again when it is not answered: nobody else
// does, and a single lost connection would fail the whole work.
type repeating struct{ base http.RoundTripper }

func (t repeating) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.base.RoundTrip(r)
	for range tokenAttempts - 1 {
		if err == nil || r.GetBody == nil || r.Context().Err() != nil {
			break
		}
		again := r.Clone(r.Context())
		if again.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
		answer, err = t.base.RoundTrip(again)
	}
	return answer, err
}

// tokenContext has tokens fetched through a transport, by a client of their own: Google's
// would wait without end.
func tokenContext(ctx context.Context, transport http.RoundTripper) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: repeating{base: transport}, Timeout: answerTimeout})
}

func (s *Store) openAzure(ctx context.Context, c Config, name string) error {
	client, err := azureClient(c, name, s.noticed)
	if err != nil {
		return err
	}
	s.bucket, err = azureblob.OpenBucket(ctx, client, nil)
	if err != nil {
		return usage("the store is %q", s.name)
	}
	s.piped = true
	return nil
}

// azureClient takes the account's key, a token of shared access, or the pod's
// workload identity.
func azureClient(c Config, name string, notice policyFunc) (*container.Client, error) {
	transport, err := httpClient(c)
	if err != nil {
		return nil, err
	}
	endpoint := c.Endpoint
	if endpoint == "" {
		endpoint = "https://" + c.AzureAccount + ".blob.core.windows.net"
	}
	address, err := url.JoinPath(endpoint, name)
	if err != nil || c.AzureAccount == "" || name == "" {
		return nil, usage("the store is %q in the account %q", c.URL, c.AzureAccount)
	}
	options := &container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: transport, PerRetryPolicies: []policy.Policy{notice}}}
	client, err := azureClientAs(c, address, options)
	if _, ok := errors.AsType[*snapshot.Failure](err); ok {
		return nil, err
	}
	if err != nil && c.Credentials == "" {
		return nil, noIdentity(c, err)
	}
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "the credentials for %s cannot be used — the store cannot be asked — put a valid %s or %s into the Secret",
			c.URL, snapshot.CredentialAzureKey, snapshot.CredentialAzureSAS)
	}
	return client, nil
}

func azureClientAs(c Config, address string, options *container.ClientOptions) (*container.Client, error) {
	if c.Credentials == "" {
		identity, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, err
		}
		return container.NewClient(address, identity, options)
	}
	_, err := credential(c.Credentials, snapshot.CredentialAzureSAS)
	if err == nil {
		options.PerCallPolicies = append(options.PerCallPolicies, sharedAccess{dir: c.Credentials})
		return container.NewClientWithNoCredential(address, options)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	key, err := credential(c.Credentials, snapshot.CredentialAzureKey)
	if err != nil {
		return nil, err
	}
	shared, err := container.NewSharedKeyCredential(c.AzureAccount, key)
	if err != nil {
		return nil, err
	}
	options.PerCallPolicies = append(options.PerCallPolicies, sharedKey{dir: c.Credentials, key: shared})
	return container.NewClientWithSharedKeyCredential(address, shared, options)
}

// sharedKey reads the account's key from a mounted Secret before every request.
type sharedKey struct {
	dir string
	key *container.SharedKeyCredential
}

func (s sharedKey) Do(r *policy.Request) (*http.Response, error) {
	key, err := credential(s.dir, snapshot.CredentialAzureKey)
	if err == nil {
		err = s.key.SetAccountKey(key)
	}
	if err != nil {
		return nil, err
	}
	return r.Next()
}

// sharedAccess reads a token from a mounted Secret, and adds it to every request.
type sharedAccess struct{ dir string }

func (s sharedAccess) Do(r *policy.Request) (*http.Response, error) {
	token, err := credential(s.dir, snapshot.CredentialAzureSAS)
	if err != nil {
		return nil, err
	}
	address := r.Raw().URL
	address.RawQuery = strings.TrimPrefix(address.RawQuery+"&"+strings.TrimPrefix(token, "?"), "&")
	return r.Next()
}
