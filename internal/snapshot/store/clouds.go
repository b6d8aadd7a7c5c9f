package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"

	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// connectTimeout and answerTimeout bound what the SDKs would wait for without
	// end. Whoever moves bytes watches that they move.
	connectTimeout = 10 * time.Second
	answerTimeout  = 2 * time.Minute
	gcsScope       = "https://www.googleapis.com/auth/devstorage.read_write"
)

// transportOptions trust the authorities in the file, or the system's.
func transportOptions(ca string) (func(*http.Transport), error) {
	var roots *x509.CertPool
	if ca != "" {
		content, err := os.ReadFile(ca)
		roots = x509.NewCertPool()
		if err != nil || !roots.AppendCertsFromPEM(content) {
			return nil, snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "%s holds no certificate in PEM — the store's certificate cannot be verified — correct it", ca)
		}
	}
	return func(t *http.Transport) {
		t.TLSHandshakeTimeout = connectTimeout
		t.ResponseHeaderTimeout = answerTimeout
		t.MaxIdleConnsPerHost = partsInFlight + 2
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}, nil
}

func httpClient(ca string) (*http.Client, error) {
	options, err := transportOptions(ca)
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
	client, err := httpClient(c.CA)
	if err != nil {
		return err
	}
	authorized, err := authorizeGCS(ctx, c, client.Transport)
	if err != nil {
		return err
	}
	var options []option.ClientOption
	if c.Endpoint != "" {
		options = append(options, option.WithEndpoint(c.Endpoint))
	}
	s.bucket, err = gcsblob.OpenBucket(ctx, authorized, bucket, &gcsblob.Options{ClientOptions: options})
	if err != nil {
		return usage("the store is %q", s.name)
	}
	return nil
}

func authorizeGCS(ctx context.Context, c Config, transport http.RoundTripper) (*gcp.HTTPClient, error) {
	var credentials *google.Credentials
	var err error
	if c.Credentials != "" {
		var key string
		if key, err = credential(c.Credentials, snapshot.CredentialGCS); err != nil {
			return nil, err
		}
		credentials, err = google.CredentialsFromJSONWithType(ctx, []byte(key), google.ServiceAccount, gcsScope)
	} else {
		credentials, err = gcp.DefaultCredentials(ctx)
	}
	if err != nil {
		// The parser's words could quote the key.
		return nil, snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "there are no usable credentials for %s — the store cannot be asked — %s", c.URL,
			"put the JSON key of a service account into the Secret's key "+snapshot.CredentialGCS+", or give the pod a workload identity")
	}
	authorized, err := gcp.NewHTTPClient(transport, gcp.CredentialsTokenSource(credentials))
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "the credentials for %s cannot be used — the store cannot be asked — check them", c.URL)
	}
	return authorized, nil
}

func (s *Store) openAzure(ctx context.Context, c Config, name string) error {
	client, err := azureClient(c, name)
	if err != nil {
		return err
	}
	s.bucket, err = azureblob.OpenBucket(ctx, client, nil)
	if err != nil {
		return usage("the store is %q", s.name)
	}
	return nil
}

// azureClient takes the account's key, a token of shared access, or the pod's
// workload identity.
func azureClient(c Config, name string) (*container.Client, error) {
	transport, err := httpClient(c.CA)
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
	options := &container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: transport}}
	client, err := azureClientAs(c, address, options)
	if _, ok := errors.AsType[*snapshot.Failure](err); ok {
		return nil, err
	}
	if err != nil {
		return nil, snapshot.Fail(snapshot.ReasonCredentialsMissing, err, "the credentials for %s cannot be used — the store cannot be asked — put a valid %s or %s into the Secret, or give the pod a workload identity",
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
	token, err := credential(c.Credentials, snapshot.CredentialAzureSAS)
	if err == nil {
		return container.NewClientWithNoCredential(address+"?"+strings.TrimPrefix(token, "?"), options)
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
	return container.NewClientWithSharedKeyCredential(address, shared, options)
}
