package thriftc

import (
	"context"
	"errors"
	"fmt"

	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/passes"
)

// Kind says what sort of failure an error is.
type Kind uint8

// The kinds of errors.
const (
	Failed      Kind = iota // a file that is broken or cannot be read or written, a pass that failed
	Usage                   // wrong options, recipe or pipeline
	Unsupported             // the model or one of its operators is not supported; every place is listed
	Budget                  // a budget or a limit is not met; there is a result all the same
	Differ                  // results differ; there is a comparison all the same
	Cancelled               // the context was cancelled
)

func (k Kind) String() string {
	return [...]string{"failed", "usage", "unsupported", "budget", "differ", "cancelled"}[k]
}

// Error is an error of a kind other than what it wraps says. Messages name
// options as the command's flags are called.
type Error struct {
	Kind Kind
	Err  error
	Hint string // what to do about it; may be empty
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of an error that this package returned.
func KindOf(err error) Kind {
	var e *Error
	var size *bench.SizeError
	var unsupported *onnxio.Unsupported
	var refusal *passes.Refusal
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.As(err, &size):
		return Usage
	case errors.As(err, &unsupported), errors.As(err, &refusal):
		return Unsupported
	}
	return Failed
}

func usageError(format string, args ...any) error {
	return &Error{Kind: Usage, Err: fmt.Errorf(format, args...)}
}
