package v3client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/etcd"
)

// refusals are etcd's definite answers: nothing was changed. They are told by
// their text, which etcd has kept from 3.5 to 3.7, since one code has several
// meanings and the same meaning had several codes.
var refusals = textOf(map[error][]error{
	etcd.ErrPeerURLExists:    {rpctypes.ErrGRPCPeerURLExist, rpctypes.ErrGRPCMemberExist},
	etcd.ErrMemberNotFound:   {rpctypes.ErrGRPCMemberNotFound},
	etcd.ErrTooManyLearners:  {rpctypes.ErrGRPCTooManyLearners},
	etcd.ErrUnhealthyCluster: {rpctypes.ErrGRPCUnhealthy},
	etcd.ErrLearnerNotReady:  {rpctypes.ErrGRPCLearnerNotReady},
	etcd.ErrNotLearner:       {rpctypes.ErrGRPCMemberNotLearner},
	etcd.ErrNotStarted:       {rpctypes.ErrGRPCMemberNotEnoughStarted},
	etcd.ErrNoSpace:          {rpctypes.ErrGRPCNoSpace},
	etcd.ErrCorrupt:          {rpctypes.ErrGRPCCorrupt},
	etcd.ErrCompacted:        {rpctypes.ErrGRPCCompacted},
	etcd.ErrFutureRevision:   {rpctypes.ErrGRPCFutureRev},
	etcd.ErrNotLeader:        {rpctypes.ErrGRPCNotLeader},
	etcd.ErrLearner:          {rpctypes.ErrGRPCNotSupportedForLearner},
	etcd.ErrDowngrading:      {rpctypes.ErrGRPCDowngradeInProcess},
	etcd.ErrNoDowngrade:      {rpctypes.ErrGRPCNoInflightDowngrade},
	etcd.ErrPermission: {
		rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCInvalidAuthToken,
		rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCUserNotFound, rpctypes.ErrGRPCAuthFailed,
	},
})

// doubts are answers of a member that could not finish: what was asked may
// have entered raft's log all the same.
var doubts = textOf(map[error][]error{
	etcd.ErrNoLeader: {
		rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCLeaderChanged, rpctypes.ErrGRPCTimeout,
		rpctypes.ErrGRPCTimeoutDueToLeaderFail, rpctypes.ErrGRPCTimeoutDueToConnectionLost,
		rpctypes.ErrGRPCTimeoutWaitAppliedIndex, rpctypes.ErrGRPCDeadlineExceeded,
	},
	etcd.ErrUnreachable: {rpctypes.ErrGRPCStopped},
})

func textOf(kinds map[error][]error) map[string]error {
	texts := map[string]error{}
	for kind, answers := range kinds {
		for _, answer := range answers {
			texts[status.Convert(answer).Message()] = kind
		}
	}
	return texts
}

// effect says whether a call changes something.
type effect int

const (
	reads effect = iota
	changes
)

// explain turns what gRPC returned into an error of package etcd that wraps
// the original. Connected says whether the connection stood when the call
// ended: a deadline on a standing connection means that no quorum answered.
func explain(ctx context.Context, does effect, connected func() bool, err error) error {
	answer := status.Convert(err)
	if kind, ok := refusals[answer.Message()]; ok {
		return &callError{kinds: []error{kind}, text: answer.Message(), err: err}
	}
	kinds, text := []error{}, answer.Message()
	if does == changes {
		kinds = append(kinds, etcd.ErrOutcomeUnknown)
	}
	kind, doubtful := doubts[text]
	switch {
	case doubtful:
		kinds = append(kinds, kind)
	case answer.Code() == codes.DeadlineExceeded && connected():
		kinds = append(kinds, etcd.ErrNoLeader)
	case answer.Code() == codes.DeadlineExceeded, answer.Code() == codes.Unavailable:
		kinds = append(kinds, etcd.ErrUnreachable)
	}
	if due, bounded := ctx.Deadline(); bounded && !time.Now().Before(due) {
		// The server, which is told of the deadline, may be quicker to end the call than
		// the timer of the context.
		<-ctx.Done()
	}
	if cause := context.Cause(ctx); ctx.Err() != nil && cause != nil {
		// Why it ended says more than that a deadline was exceeded.
		text = cause.Error()
		err = errors.Join(err, cause)
	}
	return &callError{kinds: kinds, text: text, err: err}
}

// callError says what went wrong in words and can be asked for its kinds.
type callError struct {
	kinds []error
	text  string
	err   error
}

func (e *callError) Error() string {
	var text strings.Builder
	for _, kind := range e.kinds {
		text.WriteString(kind.Error() + ": ")
	}
	return text.String() + e.text
}

func (e *callError) Unwrap() []error { return append(slices.Clip(e.kinds), e.err) }

// timeoutError is the cause of a call's end by its own timeout.
type timeoutError struct{ after fmt.Stringer }

func (e timeoutError) Error() string { return "no answer within " + e.after.String() }

// Unwrap makes it a deadline for errors.Is.
func (e timeoutError) Unwrap() error { return context.DeadlineExceeded }
