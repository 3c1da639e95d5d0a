// Package panics turns the panics of code that others wrote into errors.
package panics

import (
	"runtime"
	"runtime/debug"
)

// Error is a panic, turned into an error.
type Error struct {
	Value any
	Stack []byte
}

// Error returns what the run time found wrong. A value that the code chose itself is
// not shown, for it may hold a key or a piece of an answer; the stack says where it was.
func (e *Error) Error() string {
	text := "panic; its value is not shown, because it may quote a key"
	if err, ok := e.Value.(runtime.Error); ok {
		_ = Catch(func() error {
			text = "panic: " + err.Error()
			return nil
		})
	}
	return text
}

// Catch calls f and returns its error, or its panic as an [*Error].
func Catch(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Error{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
