package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"

	"cloud.google.com/go/compute/metadata"
	"cloud.google.com/go/storage"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"

	"github.com/quorate/quorate/internal/snapshot"
)

// badCRC is how Google's client says that what it read is not what its own checksum
// says. It has no value for that error.
const badCRC = "storage: bad CRC on read"

// unidentified is how the SDKs say that the pod has no identity to show, for which they have
// no value either.
var unidentified = []string{"no EC2 IMDS role found", "failed to retrieve jwt", "DefaultAzureCredential: failed to acquire a token"}

// writing is what explain is told of a write.
const writing = "writing"

// answer is what a store's SDK said, in one form for all of them.
type answer struct {
	// code is the store's own word for the error; it may be empty.
	code string
	// status is HTTP's; zero if nothing was answered.
	status int
}

func answerOf(err error) answer {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return answer{code: e.ErrorCode, status: e.StatusCode}
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return answer{status: e.Code}
	}
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok && e.Response != nil {
		return answer{code: e.ErrorCode, status: e.Response.StatusCode}
	}
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok && e.RawResponse != nil {
		return answer{status: e.RawResponse.StatusCode}
	}
	if e, ok := errors.AsType[*metadata.Error](err); ok {
		return answer{status: e.Code}
	}
	var a answer
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		a.code = e.ErrorCode()
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		a.status = e.HTTPStatusCode()
	}
	return a
}

// codes are the words that stores use, by what they mean to us.
var codes = map[snapshot.Reason][]string{
	snapshot.ReasonBucketMissing: {"NoSuchBucket", "InvalidBucketName", "InvalidResourceName", "ContainerNotFound", "ContainerBeingDeleted"},
	snapshot.ReasonAccessDenied: {
		"AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed", "AccountProblem", "AllAccessDisabled",
		"XAdminUserNotFound", "AuthenticationFailed", "AuthorizationFailure", "AuthorizationPermissionMismatch", "InsufficientAccountPermissions", "InvalidToken",
		"InvalidIdentityToken",
	},
	snapshot.ReasonCredentialsExpired: {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"},
	snapshot.ReasonNoSpace:            {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "NoSpaceLeftOnDevice"},
}

// strangers are the words for who asks, and not for what is asked.
var strangers = []string{
	"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidIdentityToken", "XAdminUserNotFound", "AuthenticationFailed", "InvalidAuthenticationInfo",
	"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired",
}

// strange says that the store, or who vouches for the pod, does not know the credentials.
func strange(err error) bool {
	a := answerOf(err)
	return slices.Contains(strangers, a.code) || a.status == http.StatusUnauthorized || unauthenticated(err)
}

// unauthenticated says that whoever gives out tokens for credentials gave none for these.
func unauthenticated(err error) bool {
	if a := answerOf(err); a.status < http.StatusBadRequest || a.status >= http.StatusInternalServerError || a.status == http.StatusTooManyRequests {
		return false
	}
	_, byGoogle := errors.AsType[*oauth2.RetrieveError](err)
	_, byAzure := errors.AsType[*azidentity.AuthenticationFailedError](err)
	_, byMetadata := errors.AsType[*metadata.Error](err)
	return byGoogle || byAzure || byMetadata
}

// reasonFor says what an error of a store's SDK, or of the file system, means.
func reasonFor(err error) snapshot.Reason {
	a := answerOf(err)
	for reason, words := range codes {
		if slices.Contains(words, a.code) {
			return reason
		}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return snapshot.ReasonStoreUntrusted
	}
	switch {
	case errors.Is(err, errNoBucket):
		return snapshot.ReasonBucketMissing
	case unauthenticated(err):
		return snapshot.ReasonAccessDenied
	case isUnidentified(err):
		return snapshot.ReasonCredentialsMissing
	case strings.Contains(err.Error(), badCRC):
		return snapshot.ReasonCorrupt
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), a.status == http.StatusInsufficientStorage:
		return snapshot.ReasonNoSpace
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS), a.status == http.StatusForbidden, a.status == http.StatusUnauthorized:
		return snapshot.ReasonAccessDenied
	default:
		return snapshot.ReasonStoreUnreachable
	}
}

// isUnidentified says that the pod has no identity to show.
func isUnidentified(err error) bool {
	if _, ok := errors.AsType[metadata.NotDefinedError](err); ok {
		return true
	}
	_, refused := errors.AsType[*azidentity.AuthenticationFailedError](err)
	said := func(words string) bool { return strings.Contains(err.Error(), words) }
	return !refused && slices.ContainsFunc(unidentified, said)
}

// explain turns an error into a Failure, or into one that wraps ErrNotExist.
func (s *Store) explain(ctx context.Context, doing, key string, err error) error {
	if failure, ok := errors.AsType[*snapshot.Failure](err); ok {
		return failure
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s in %s: %w", doing, key, s.name, context.Cause(ctx))
	}
	missing := s.isMissing(err)
	if e, ok := errors.AsType[*exhaustedError](err); ok {
		err = e.last
	}
	reason := reasonFor(err)
	if reason == snapshot.ReasonAccessDenied && strange(err) && s.admitted.Load() {
		reason = snapshot.ReasonCredentialsExpired // they were good a moment ago
	}
	if missing && reason == snapshot.ReasonStoreUnreachable {
		// What is written need not be there: it is the bucket that is not.
		if doing == writing {
			return s.bucketMissing(err)
		}
		return fmt.Errorf("%s %s in %s: %w", doing, key, s.name, ErrNotExist)
	}
	what := fmt.Sprintf("%s %s in %s: %s", doing, key, s.name, plainly(err))
	return snapshot.Fail(reason, err, "%s — %s", what, s.advice(reason))
}

// missing are the words that stores have for an object that is not there.
var missing = []string{"NoSuchKey", string(bloberror.BlobNotFound)}

// isMissing says that the store itself has answered that something is not there. HTTP's 404
// says nothing: a proxy answers so for all that it does not know, such as a store that is
// being replaced, and a backup would be taken for deleted that nobody has asked for. A bucket
// that is missing says nothing of an object. Google's client tells no words; see ownWords.
func (s *Store) isMissing(err error) bool {
	if s.directory != "" {
		return errors.Is(err, os.ErrNotExist)
	}
	return slices.Contains(missing, answerOf(err).code) || errors.Is(err, storage.ErrObjectNotExist) || errors.Is(err, storage.ErrBucketNotExist)
}

func (s *Store) bucketMissing(err error) error {
	return snapshot.Fail(snapshot.ReasonBucketMissing, err, "%s does not exist — %s", s.name, s.advice(snapshot.ReasonBucketMissing))
}

// givenNone says whose identity a store was shown that nobody gave credentials for. Whoever
// has forgotten the Secret would look for what is wrong with one.
const givenNone = "no credentialsSecretRef (--credentials) is given, so the pod's own identity was used, that of its serviceAccountName: "

// withoutCredentials is what to do about a pod that has no identity to show.
const withoutCredentials = givenNone + "name a Secret with credentials, or give that ServiceAccount a workload identity"

// advice is why a failure matters and what to do.
func (s *Store) advice(reason snapshot.Reason) string {
	switch {
	case !s.ownIdentity:
	case reason == snapshot.ReasonAccessDenied:
		return "the store does not let this identity do it — " + givenNone + "give it the right to list, read, write and delete below the prefix, or name a Secret with credentials"
	case reason == snapshot.ReasonCredentialsMissing:
		return "there is nothing to show to the store, which cannot be asked — " + withoutCredentials
	}
	return advice(reason)
}

func advice(reason snapshot.Reason) string {
	switch reason {
	case snapshot.ReasonBucketMissing:
		return "backups have nowhere to lie — create it, or correct its name, region or endpoint"
	case snapshot.ReasonAccessDenied:
		return "the store does not let these credentials do it — check them, and that they may list, read, write and delete below the prefix"
	case snapshot.ReasonCredentialsMissing:
		return "there is nothing to show to the store, which cannot be asked — name a Secret with credentials, or give the pod a workload identity"
	case snapshot.ReasonCredentialsExpired:
		return "the store takes these credentials no more — renew the Secret, or the right of the pod's identity; a Secret is read again by itself"
	case snapshot.ReasonStoreUntrusted:
		return "whoever answers may be somebody else, and would be given the data — give the authority that signed its certificate, ca.crt of the store's caSecretRef (--store-ca)"
	case snapshot.ReasonCorrupt:
		return "it is not what was written, and cannot be restored — take a new backup, and look at the store"
	case snapshot.ReasonNoSpace:
		return "the backup does not fit — make room, or keep fewer backups"
	default:
		return "no backup can be reached or stored there — check the store, its address and the way to it"
	}
}

// plainly is the error's text without a request's address, whose query may carry a
// signature.
func plainly(err error) string {
	text := strings.TrimPrefix(err.Error(), "blob (code=Unknown): ") // which says nothing
	if e, ok := errors.AsType[*url.Error](err); ok {
		host := "the store"
		if parsed, err := url.Parse(e.URL); err == nil && parsed.Host != "" {
			host = parsed.Host
		}
		text = fmt.Sprintf("%s %s: %v", strings.ToUpper(e.Op), host, e.Err)
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		text = fmt.Sprintf("%s: %s", e.ErrorCode(), e.ErrorMessage())
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		text = fmt.Sprintf("%s (status %d)", cmp.Or(e.Message, http.StatusText(e.Code)), e.Code)
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		text = fmt.Sprintf("%s (status %d)", e.ErrorCode, e.StatusCode)
	}
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok && e.RawResponse != nil {
		text = refusal(e.RawResponse)
	}
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ".")
}

// refusal is the first line of what Entra says of an identity that it refuses. The SDK's own
// text is a page.
func refusal(r *http.Response) string {
	var said struct {
		Description string `json:"error_description"`
	}
	if body, err := runtime.Payload(r); err == nil {
		_ = json.Unmarshal(body, &said) // without it there is still the status
	}
	line, _, _ := strings.Cut(said.Description, "\n")
	return fmt.Sprintf("the pod's identity is refused: %s (status %d)", cmp.Or(strings.TrimSpace(line), http.StatusText(r.StatusCode)), r.StatusCode)
}

// notImplemented says that the store knows no conditional writes.
func notImplemented(err error) bool {
	a := answerOf(err)
	return err != nil && (a.status == http.StatusNotImplemented || a.code == "NotImplemented")
}
