package store

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"github.com/quorate/quorate/internal/snapshot"
)

// A store that does not answer is told of at the first request, and not when the client has
// asked for the last time, and so is one that answers again. No address with its query is told.
func TestARequestThatFailsIsTold(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *fronted{"S3": frontedS3, "GCS": frontedGCS, "Azure": frontedAzure} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			var busy http.HandlerFunc = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
			f.front.Store(&busy)
			told := make(chan error, 100)
			f.config.Asked = func(err error) { told <- err }
			s, err := Open(t.Context(), f.config)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = s.List(ctx, "p/") // it is not waited for
			}()
			select {
			case err := <-told:
				if snapshot.ReasonOf(err) != snapshot.ReasonStoreUnreachable || !strings.Contains(err.Error(), "503") || strings.Count(err.Error(), " — ") != 2 || strings.Contains(err.Error(), "?") {
					t.Errorf("told %v", err)
				}
			case <-ended:
				t.Error("nothing was told before the end")
			case <-time.After(5 * time.Second):
				t.Error("nothing was told")
			}
			f.front.Store(&f.own)
			cancel()
			<-ended
			_, _ = s.Get(t.Context(), "p/x", 1)
			for err := errors.New("nothing was told of the answer"); err != nil; {
				select {
				case err = <-told:
				default:
					t.Fatal(err)
				}
			}
		})
	}
}

// Azure's address of an object carries what it is signed with. What is told stands in logs, and
// in status.
func TestARequestThatFailsIsToldWithoutItsQuery(t *testing.T) {
	f := frontedAzure(t)
	f.config.Credentials = mounted(t, map[string]string{snapshot.CredentialAzureSAS: "sv=2026-01-01&sig=thesignature"})
	var hangUp http.HandlerFunc = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	f.front.Store(&hangUp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan error, 1)
	f.config.Asked = func(err error) {
		select {
		case told <- err:
			cancel() // once is enough
		default:
		}
	}
	s, err := Open(t.Context(), f.config)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, _ = s.List(ctx, "p/") // what it returns has its own tests
	select {
	case err := <-told:
		if err == nil || strings.Contains(err.Error(), "thesignature") || !strings.Contains(err.Error(), "EOF") {
			t.Errorf("told %v", err)
		}
	default:
		t.Error("nothing was told")
	}
}

// Where nobody is, nobody refuses: it is not waited for a connection for as long as Go does.
func TestAnAddressWhereNobodyIs(t *testing.T) {
	if d := dialer(); d.Timeout != connectTimeout || connectTimeout > 10*time.Second {
		t.Errorf("it is waited %s for a connection", d.Timeout)
	}
}

// Who has forgotten the Secret is told whose identity was used.
func TestWithoutCredentialsThePodsIdentityIsNamed(t *testing.T) {
	denied := &smithy.GenericAPIError{Code: "AccessDenied", Message: "no"}
	nobody := errors.New("get identity: no EC2 IMDS role found")
	for _, tc := range []struct {
		store  *Store
		err    error
		reason snapshot.Reason
		named  bool
	}{
		{&Store{name: "s3://b", ownIdentity: true}, nobody, snapshot.ReasonCredentialsMissing, true},
		{&Store{name: "s3://b", ownIdentity: true}, denied, snapshot.ReasonAccessDenied, true},
		{&Store{name: "s3://b"}, denied, snapshot.ReasonAccessDenied, false},
		{&Store{name: "s3://b", ownIdentity: true}, errors.New("connection refused"), snapshot.ReasonStoreUnreachable, false},
	} {
		err := tc.store.explain(t.Context(), "listing", "p/", tc.err)
		named := strings.Contains(err.Error(), "no credentialsSecretRef") && strings.Contains(err.Error(), "serviceAccountName")
		if snapshot.ReasonOf(err) != tc.reason || named != tc.named || strings.Count(err.Error(), " — ") != 2 || strings.Contains(err.Error(), "tried again") {
			t.Errorf("%s: %v", snapshot.ReasonOf(err), err)
		}
	}
	opened, err := Open(t.Context(), Config{URL: "s3://b"})
	if err != nil || !opened.ownIdentity {
		t.Errorf("a store without credentials: %v", err)
	}
}
