package snapshot

import (
	"context"
	"errors"
	"fmt"
)

// Failure is an error that names its reason and says to people, in one sentence of
// three parts, what is wrong, why it matters and what to do. The message holds no
// secret; Cause may, and is for errors.Is and errors.As alone.
type Failure struct {
	Reason  Reason
	Message string
	Cause   error
}

func (f *Failure) Error() string { return f.Message }

func (f *Failure) Unwrap() error { return f.Cause }

// Fail makes a Failure; format and its arguments are the message.
func Fail(reason Reason, cause error, format string, arguments ...any) error {
	return &Failure{Reason: reason, Message: fmt.Sprintf(format, arguments...), Cause: cause}
}

// ReasonOf is the reason of the Failure in err's chain.
func ReasonOf(err error) Reason {
	if failure, ok := errors.AsType[*Failure](err); ok {
		return failure.Reason
	}
	if errors.Is(err, context.Canceled) {
		return ReasonInterrupted
	}
	return ReasonInternal
}
