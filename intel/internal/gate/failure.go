package gate

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/decnet/enrich/provider"
)

// OwnError returns an error that stands for one that the named provider returned,
// which must not be nil. The provider may have made that of anything: a nil
// *provider.Error, a type whose methods panic. The error returned says the same,
// wraps one *provider.Error of ours with a sentinel of package provider, and matches
// what err matches, but its methods never panic and its text never changes. It wraps
// a [*PanicError] if err could not even be read.
func OwnError(name string, err error) (own error) {
	defer func() {
		if v := recover(); v != nil {
			own = &provider.Error{
				Provider: name, Kind: provider.ErrUnavailable, Err: &PanicError{Value: v, Stack: debug.Stack()},
			}
		}
	}()
	e, ok := err.(*provider.Error)
	if ok && e != nil && e.Err == nil && provider.Kind(e.Kind) == e.Kind {
		return e // it holds nothing foreign
	}
	e, ok = errors.AsType[*provider.Error](err)
	switch {
	case !ok:
		return &provider.Error{Provider: name, Kind: provider.Kind(err), Err: &foreignError{text: err.Error(), err: err}}
	case e == nil:
		return &provider.Error{
			Provider: name, Kind: provider.ErrUnavailable, Err: errors.New("the provider returned a nil *provider.Error"),
		}
	}
	copied := *e
	copied.Kind = provider.Kind(err)
	if e.Err != nil {
		copied.Err = &foreignError{text: e.Err.Error(), err: e.Err}
	}
	if e.Usage != nil {
		usage := *e.Usage
		copied.Usage = &usage
	}
	return &foreignError{text: err.Error(), err: err, own: &copied}
}

// foreignError keeps an error of code that is not ours, and calls its methods only
// where a panic of theirs does no harm.
type foreignError struct {
	text string
	err  error
	own  *provider.Error // nil, or what stands for the *provider.Error in err
}

func (f *foreignError) Error() string { return f.text }

// Is reports whether the foreign error matches.
func (f *foreignError) Is(target error) (is bool) {
	defer func() {
		if recover() != nil {
			is = false
		}
	}()
	return errors.Is(f.err, target)
}

// As finds an error of the target's type, of which a *provider.Error is ours.
func (f *foreignError) As(target any) (found bool) {
	if e, ok := target.(**provider.Error); ok {
		if f.own != nil {
			*e = f.own
		}
		return f.own != nil
	}
	defer func() {
		if recover() != nil {
			found = false
		}
	}()
	return errors.As(f.err, target)
}

// PanicError is a panic of code that is not ours, turned into an error.
type PanicError struct {
	Value any
	Stack []byte
}

// Error says what the run time found wrong. Of a value that the code chose itself
// it tells only the type: the value may hold a key or a part of an answer, and its
// methods may panic, too. The stack says where it was.
func (e *PanicError) Error() string {
	if err, ok := e.Value.(runtime.Error); ok && isRuntime(err) {
		return "panic: " + err.Error()
	}
	return fmt.Sprintf("panic with a %T", e.Value)
}

// isRuntime reports whether an error is the run time's own: other types may have
// the method RuntimeError as well.
func isRuntime(err runtime.Error) bool {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath() == "runtime" || strings.HasPrefix(t.PkgPath(), "internal/runtime/")
}
