package store

import (
	"errors"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob/azureblob"

	"github.com/quorate/quorate/internal/snapshot"
)

// Google's client takes an address literally, and asked for objects at its root.
func TestTheEndpointOfGoogle(t *testing.T) {
	for given, want := range map[string]string{
		"https://storage-x.p.googleapis.com":             "https://storage-x.p.googleapis.com/storage/v1/",
		"https://storage-x.p.googleapis.com/":            "https://storage-x.p.googleapis.com/storage/v1/",
		"https://storage-x.p.googleapis.com/storage/v1":  "https://storage-x.p.googleapis.com/storage/v1/",
		"https://storage-x.p.googleapis.com/storage/v1/": "https://storage-x.p.googleapis.com/storage/v1/",
		"storage-x.p.googleapis.com":                     "",
		"ftp://x":                                        "",
	} {
		got, err := gcsEndpoint(given)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v, want %q", given, got, err, want)
		}
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(r *http.Request) (*http.Response, error) { return f(r) }

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A host that has no address is not a missing object, nor is a file that the pod's identity
// is to be read from: retention would take a backup for unfinished, and a deletion for done.
func TestWhatIsMissingIsNoObject(t *testing.T) {
	for name, missing := range map[string]error{
		"an address": &net.DNSError{Err: "no such host", Name: "account.invalid", IsNotFound: true},
		"a file":     &os.PathError{Op: "open", Path: "/var/run/secrets/token", Err: os.ErrNotExist},
	} {
		nowhere := transport(func(*http.Request) (*http.Response, error) { return nil, missing })
		options := &container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: nowhere, Retry: policy.RetryOptions{MaxRetries: -1}}}
		client, err := container.NewClientWithNoCredential("https://account.invalid/backups", options)
		if err != nil {
			t.Fatal(err)
		}
		bucket, err := azureblob.OpenBucket(t.Context(), client, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &Store{name: "azblob://backups", bucket: bucket}
		if _, err := s.Get(t.Context(), "x", 1); errors.Is(err, ErrNotExist) || snapshot.ReasonOf(err) != snapshot.ReasonStoreUnreachable {
			t.Errorf("reading without %s: %v", name, err)
		}
		if err := s.Delete(t.Context(), "x"); snapshot.ReasonOf(err) != snapshot.ReasonStoreUnreachable {
			t.Errorf("deleting without %s: %v", name, err)
		}
	}
}

// An operation ends after so many failures in a row, and the next begins anew.
func TestPatienceEnds(t *testing.T) {
	calls := 0
	busy := patient{base: transport(func(*http.Request) (*http.Response, error) {
		calls++
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
	})}
	for range 2 {
		calls = 0
		r, err := http.NewRequestWithContext(patiently(t.Context()), http.MethodGet, "http://127.0.0.1/", nil)
		if err != nil {
			t.Fatal(err)
		}
		for range mostFailures {
			answer, err := busy.RoundTrip(r)
			if err != nil {
				t.Fatalf("after %d failures: %v", calls, err)
			}
			_ = answer.Body.Close()
		}
		if _, err := busy.RoundTrip(r); !isExhausted(err) || calls != mostFailures { //nolint:bodyclose // there is none
			t.Errorf("after %d failures: %v", calls, err)
		}
	}
}

func isExhausted(err error) bool {
	_, ok := errors.AsType[*exhaustedError](err)
	return ok
}
