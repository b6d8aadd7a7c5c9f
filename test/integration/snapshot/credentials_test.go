package snapshot

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/clouds"
	"github.com/quorate/quorate/test/freeport"
)

// The account that the store knows beside its own, until its key is withdrawn.
const (
	oldKeyID = "old-key-id"
	oldKey   = "old-secret-key"
)

// mounted is a Secret as the kubelet shows it: all keys of it change at once.
func mounted(t testing.TB, id, key string) (dir string, renew func(id, key string)) {
	t.Helper()
	dir = t.TempDir()
	renew = func(id, key string) {
		version := t.TempDir()
		write(t, filepath.Join(version, snapshot.CredentialS3KeyID), id)
		write(t, filepath.Join(version, snapshot.CredentialS3Key), key)
		next := filepath.Join(dir, "..next")
		if err := os.Symlink(version, next); err != nil {
			t.Error(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
			t.Error(err)
		}
	}
	renew(id, key)
	for _, name := range []string{snapshot.CredentialS3KeyID, snapshot.CredentialS3Key} {
		symlink(t, filepath.Join("..data", name), filepath.Join(dir, name))
	}
	return dir, renew
}

func isAbort(r *http.Request) bool {
	return r.Method == http.MethodDelete && r.URL.Query().Has("uploadId")
}

// isBegunAgain is an upload that begins when another one had begun before.
func isBegunAgain() func(*http.Request) bool {
	var begun atomic.Int32
	return func(r *http.Request) bool {
		return r.Method == http.MethodPost && r.URL.Query().Has("uploads") && begun.Add(1) > 1
	}
}

// A Secret that is renewed while an upload goes on is used for the rest of it, whenever that
// is; nothing is left of what was begun with the old one.
func TestASecretThatIsRenewedMeanwhile(t *testing.T) {
	source := bigSource(t)
	for name, tc := range map[string]struct {
		refusal fault
		// renewed is the request at which the Secret is, before it is answered.
		renewed func(*http.Request) bool
		reason  snapshot.Reason
	}{
		"before it expires":         {answer(400, "ExpiredToken"), isPart, ""},
		"before it is withdrawn":    {answer(403, "InvalidAccessKeyId"), isPart, ""},
		"when the upload ends":      {answer(400, "ExpiredToken"), isAbort, ""},
		"at the next attempt":       {answer(400, "ExpiredToken"), isBegunAgain(), ""},
		"withdrawn, and after that": {answer(403, "InvalidAccessKeyId"), isBegunAgain(), ""},
		"it stays expired":          {answer(400, "ExpiredToken"), nil, snapshot.ReasonCredentialsExpired},
		"it stays withdrawn":        {answer(403, "InvalidAccessKeyId"), nil, snapshot.ReasonCredentialsExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time the client waits before it tries again
			accounts := t.TempDir()
			write(t, filepath.Join(accounts, "users.json"), fmt.Sprintf(`{"accessAccounts":{%q:{"access":%q,"secret":%q,"role":"admin"}}}`, oldKeyID, oldKeyID, oldKey))
			dir, renew := mounted(t, oldKeyID, oldKey)
			var withdrawn, asked atomic.Bool
			var once sync.Once
			through, direct := proxied(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if isPart(r) && r.URL.Query().Get("partNumber") == "2" {
					withdrawn.Store(true)
				}
				if tc.renewed != nil && tc.renewed(r) && withdrawn.Load() {
					once.Do(func() { renew(accessKey, secretKey) })
				}
				if withdrawn.Load() && strings.Contains(r.Header.Get("Authorization"), "Credential="+oldKeyID+"/") {
					asked.Store(true)
					tc.refusal(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			}, "--iam-dir", accounts)
			saved := through.save(t, source, "--credentials="+dir)
			if !asked.Load() {
				t.Error("nothing was asked for with the old key after it was withdrawn: nothing is shown")
			}
			if tc.reason == "" {
				saved.mustSucceed(t)
				if left := uploads(t, direct); left != 0 {
					t.Errorf("%d uploads were left behind", left)
				}
			} else {
				saved.mustFail(t, tc.reason)
			}
			checkNothingFalseIsListed(t, direct, saved)
		})
	}
}

// The Secret of a cloud is read again as well.
func TestASecretOfACloudThatIsRenewedMeanwhile(t *testing.T) {
	t.Parallel()
	source := bigSource(t)
	eachCloud(t, func(t *testing.T, open func(*testing.T, fault) cloud) {
		for name, reason := range map[string]snapshot.Reason{"and so is the Secret": "", "and the Secret is not": snapshot.ReasonCredentialsExpired} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var uploaded atomic.Int32
				var store cloud
				store = open(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if intoCloud(r) && uploaded.Add(1) == 3 {
						if renewed := store.renew(); reason == "" {
							write(t, store.file, renewed)
						}
					}
					next.ServeHTTP(w, r)
				})
				if store.renew == nil {
					t.Skip("this store keeps its credentials")
				}
				saved := store.save(t, source)
				if uploaded.Load() < 3 {
					t.Fatal("the credentials were not renewed: nothing is shown")
				}
				if reason == "" {
					saved.mustSucceed(t)
					store.drill(t, "3.6.16").mustSucceed(t)
					return
				}
				saved.mustFail(t, reason)
				if names := store.names(); len(names) != 0 {
					t.Errorf("there is something: %v", names)
				}
			})
		}
	})
}

// pod has no Secret: somebody else vouches for it.
type pod struct {
	bucket

	// refused are environments with which nobody is let in.
	refused map[string]refused
}

type refused struct {
	environment []string
	reason      snapshot.Reason
}

// resigned passes a request on as the store's own account's.
func resigned(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Header.Del("X-Amz-Security-Token")
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	account := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}
	if err := signer.SignHTTP(r.Context(), account, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", "us-east-1", time.Now()); err != nil {
		s3Error(w, http.StatusInternalServerError, "InternalError")
		return
	}
	next.ServeHTTP(w, r)
}

// podOfAmazon is a service account with a role of Amazon's.
func podOfAmazon(t *testing.T) pod {
	t.Helper()
	sts := clouds.NewSTS("arn:aws:iam::123456789012:role/backups")
	server := httptest.NewServer(sts)
	t.Cleanup(server.Close)
	through, direct := proxied(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+sts.Key+"/") || r.Header.Get("X-Amz-Security-Token") != sts.Session {
			answer(403, "InvalidAccessKeyId")(w, r, next)
			return
		}
		resigned(w, r, next)
	})
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, sts.Token)
	stranger := filepath.Join(t.TempDir(), "token")
	write(t, stranger, "stranger")
	with := func(token, role string) []string {
		return []string{"AWS_ENDPOINT_URL_STS=" + server.URL, "AWS_WEB_IDENTITY_TOKEN_FILE=" + token, "AWS_ROLE_ARN=" + role}
	}
	b := bucket{dir: direct.dir, flags: through.flags[:len(through.flags)-1], environment: with(token, sts.Role)}
	return pod{b, map[string]refused{
		"another role":    {with(token, sts.Role+"-of-others"), snapshot.ReasonAccessDenied},
		"another token":   {with(stranger, sts.Role), snapshot.ReasonAccessDenied},
		"no token":        {with(stranger+".gone", sts.Role), snapshot.ReasonCredentialsMissing},
		"no identity":     {nil, snapshot.ReasonCredentialsMissing},
		"nobody vouches":  {append(with(token, sts.Role), "AWS_ENDPOINT_URL_STS=http://"+freeport.Address(t)), snapshot.ReasonStoreUnreachable},
		"keys of another": {[]string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}, snapshot.ReasonAccessDenied},
	}}
}

// podOfGoogle is one on a node that gives it the tokens of an account.
func podOfGoogle(t *testing.T) pod {
	t.Helper()
	store := gcs(t, whole)
	with := func(status int) []string {
		server := httptest.NewServer(store.google.Metadata(status))
		t.Cleanup(server.Close)
		return []string{"GCE_METADATA_HOST=" + strings.TrimPrefix(server.URL, "http://"), "HOME=" + t.TempDir()}
	}
	b := bucket{flags: store.withoutSecret, environment: with(http.StatusOK)}
	return pod{b, map[string]refused{
		"no right to it": {with(http.StatusForbidden), snapshot.ReasonAccessDenied},
		"no account":     {with(http.StatusNotFound), snapshot.ReasonCredentialsMissing},
	}}
}

// podOfMicrosoft is one with a federated token. Its requests for tokens go to Microsoft's own
// host, by a proxy that leads to the test.
func podOfMicrosoft(t *testing.T) pod {
	t.Helper()
	store := clouds.NewAzure()
	entra := store.Entra()
	pair := newKeyPair(t, clouds.EntraHost)
	endpoint := serveTLS(t, store, pair) + "/" + clouds.AzureAccount
	client, err := container.NewClientWithSharedKeyCredential(serveBroken(t, whole, func(string) http.Handler { return store })+"/"+clouds.AzureAccount+"/backups", sharedKey(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	token, stranger := filepath.Join(t.TempDir(), "token"), filepath.Join(t.TempDir(), "token")
	write(t, token, entra.Assertion)
	write(t, stranger, "stranger")
	proxy := []string{"HTTPS_PROXY=" + tunnel(t, serveTLS(t, entra, pair)), "SSL_CERT_FILE=" + pair.certFile, "AZURE_TOKEN_CREDENTIALS=WorkloadIdentityCredential"}
	with := func(token string) []string {
		return append([]string{"AZURE_TENANT_ID=" + entra.Tenant, "AZURE_CLIENT_ID=" + entra.Client, "AZURE_FEDERATED_TOKEN_FILE=" + token, "AZURE_AUTHORITY_HOST=https://" + clouds.EntraHost + "/"}, proxy...)
	}
	flags := []string{"--store-endpoint=" + endpoint, "--store=azblob://backups", "--azure-account=" + clouds.AzureAccount, "--store-ca=" + pair.certFile}
	return pod{bucket{flags: flags, environment: with(token)}, map[string]refused{
		"another token": {with(stranger), snapshot.ReasonAccessDenied},
		"no identity":   {proxy, snapshot.ReasonCredentialsMissing},
	}}
}

func sharedKey(t *testing.T) *container.SharedKeyCredential {
	t.Helper()
	key, err := container.NewSharedKeyCredential(clouds.AzureAccount, clouds.AzureKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// serveTLS serves a handler with a certificate.
func serveTLS(t *testing.T, handler http.Handler, pair keyPair) (url string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: pair.tls.Certificates, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// tunnel is a proxy that leads to one server, whichever is asked for.
func tunnel(t *testing.T, to string) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != clouds.EntraHost+":443" {
			t.Errorf("%s %s was asked for", r.Method, r.Host)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		out, err := net.Dial("tcp", strings.TrimPrefix(to, "https://"))
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer in.Close()
		fmt.Fprint(in, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(out, in) }()
		_, _ = io.Copy(in, out)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// Without a Secret the pod's own identity is shown to the store, and what cannot be shown, or
// is refused, is said.
func TestAPodsOwnIdentity(t *testing.T) {
	t.Parallel()
	source := startEtcd(t, "3.6.16")
	live(t, source.client, 31, 50)
	want := read(t, source.client)
	for name, open := range map[string]func(*testing.T) pod{"S3": podOfAmazon, "GCS": podOfGoogle, "Azure": podOfMicrosoft} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t)
			saved := p.save(t, source).mustSucceed(t).result.Backup
			checkRestore(t, p.bucket, "3.6.16", want, saved.Revision)
			t.Run("refused", func(t *testing.T) {
				for name, r := range p.refused {
					t.Run(name, func(t *testing.T) {
						t.Parallel() // some are asked for again and again
						stranger := p.bucket
						stranger.environment = r.environment
						failed := stranger.save(t, source, "--attempts=1").mustFail(t, r.reason)
						t.Log(failed.result.Message)
					})
				}
			})
			if listed := p.list(t); len(listed) != 1 {
				t.Errorf("listed: %+v", listed)
			}
		})
	}
}
