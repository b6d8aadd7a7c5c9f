package store

import (
	"context"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/quorate/quorate/internal/snapshot"
)

// notice tells what became of one request. The SDKs ask several times, with pauses, before
// they say that a store does not answer; nobody is to wait for that in silence.
func (s *Store) notice(ctx context.Context, status int, err error) {
	if s.asked == nil || ctx.Err() != nil {
		return
	}
	// What a store does not implement it is asked for in another way.
	if err == nil && (status >= http.StatusInternalServerError && status != http.StatusNotImplemented || status == http.StatusTooManyRequests) {
		err = fmt.Errorf("it answers %d %s", status, http.StatusText(status))
	}
	if err != nil {
		reason := reasonFor(err)
		err = snapshot.Fail(reason, err, "asking %s: %s — %s", s.name, plainly(err), s.advice(reason))
	}
	s.asked(err)
}

func statusOf(r *http.Response) int {
	if r == nil {
		return 0
	}
	return r.StatusCode
}

// noticing is a transport, for Google's client.
type noticing struct {
	store *Store
	base  http.RoundTripper
}

func (n noticing) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := n.base.RoundTrip(r)
	n.store.notice(r.Context(), statusOf(answer), err)
	return answer, err
}

// policyFunc is a policy of Azure's client.
type policyFunc func(*policy.Request) (*http.Response, error)

// Do is the policy.
func (f policyFunc) Do(r *policy.Request) (*http.Response, error) { return f(r) }

// noticed is a policy for Azure's client.
func (s *Store) noticed(r *policy.Request) (*http.Response, error) {
	answer, err := r.Next()
	s.notice(r.Raw().Context(), statusOf(answer), err)
	return answer, err
}

// noticeS3 is for the client of S3, whose transport must stay the SDK's own.
func (s *Store) noticeS3(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("Notice", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		status := 0
		if answer, ok := out.RawResponse.(*smithyhttp.Response); ok && answer != nil {
			status = statusOf(answer.Response)
		}
		s.notice(ctx, status, err)
		return out, metadata, err
	}), middleware.After)
}
