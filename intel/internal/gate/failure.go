package gate

import (
	"errors"
	"fmt"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/provider"
)

// OwnError returns what a provider returned as an error that is safe to use,
// whatever the provider does: it wraps a [*provider.Error] that is not nil,
// whose kind is one of package provider's, that nobody modifies, and none of its
// methods panics. What err wraps stays within reach of [errors.Is] and
// [errors.As].
func OwnError(name string, err error) error {
	var typed *provider.Error
	var kind error
	var text, detail string
	var unsent bool
	broken := guard(func() {
		typed, _ = errors.AsType[*provider.Error](err)
		kind = provider.Kind(err)
		unsent = provider.Unsent(err)
		text = err.Error()
		if typed != nil && typed.Err != nil {
			detail = typed.Err.Error()
		}
	})
	e := &provider.Error{Provider: name, Kind: kind}
	switch {
	case broken != nil:
		e.Kind, e.Err = provider.ErrUnavailable, fmt.Errorf("the provider's error cannot be read: %w", broken)
		return e
	case typed == nil:
		e.Unsent = unsent
		e.Err = &foreign{text: text, err: err}
		return e
	}
	*e = *typed
	e.Kind, e.RetryAfter, e.Unsent = kind, max(e.RetryAfter, 0), unsent
	if e.Provider == "" {
		e.Provider = name
	}
	if e.Usage != nil {
		usage := *e.Usage
		e.Usage = &usage
	}
	if e.Err != nil {
		e.Err = &foreign{text: detail, err: e.Err}
	}
	if error(typed) != err {
		return &foreign{text: text, err: err, typed: e}
	}
	return e
}

// foreign stands in for an error that a provider made.
type foreign struct {
	text  string
	err   error
	typed *provider.Error // replaces the one that err wraps; nil if there is none
}

func (f *foreign) Error() string { return f.text }

func (f *foreign) Unwrap() error {
	if f.typed == nil {
		return nil
	}
	return f.typed
}

// Is reports what err reports, except of what kind it is: that was settled when
// it was returned.
func (f *foreign) Is(target error) (is bool) {
	_ = guard(func() { is = provider.Kind(target) != target && errors.Is(f.err, target) })
	return is
}

func (f *foreign) As(target any) (as bool) {
	if _, ok := target.(**provider.Error); ok {
		return false
	}
	_ = guard(func() { as = errors.As(f.err, target) })
	return as
}

// guard calls f and returns its panic, if any, as an error.
func guard(f func()) (panicked error) {
	return panics.Catch(func() error {
		f()
		return nil
	})
}
