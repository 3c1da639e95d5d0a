// Package suitecheck tests conformance suites: it runs one of their checks
// against an implementation that is known to be broken and tells whether the
// check noticed.
package suitecheck

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Failure runs check and returns what it reported as failures, joined by
// newlines; "" means that it passed or was skipped. A panic counts as a failure.
func Failure(t *testing.T, check func(tb testing.TB)) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{TB: t, ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.cleanUp()
		defer cancel()
		defer func() {
			if v := recover(); v != nil {
				r.Errorf("panic: %v", v)
			}
		}()
		check(r)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.failures, "\n")
}

// recorder is a testing.TB whose failures are recorded instead of failing the
// test it was made from.
type recorder struct {
	testing.TB
	ctx      context.Context
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) cleanUp() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

func (r *recorder) fail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) Context() context.Context         { return r.ctx }
func (r *recorder) Cleanup(f func())                 { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Fail()                            { r.fail("failed") }
func (r *recorder) FailNow()                         { r.fail("failed now"); runtime.Goexit() }
func (r *recorder) Error(args ...any)                { r.fail(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, arg ...any) { r.fail(fmt.Sprintf(format, arg...)) }
func (r *recorder) Fatal(args ...any)                { r.fail(fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(format string, arg ...any) {
	r.fail(fmt.Sprintf(format, arg...))
	runtime.Goexit()
}
func (r *recorder) Skip(args ...any)                { runtime.Goexit() }
func (r *recorder) Skipf(format string, arg ...any) { runtime.Goexit() }
func (r *recorder) SkipNow()                        { runtime.Goexit() }
func (r *recorder) Log(args ...any)                 {}
func (r *recorder) Logf(format string, arg ...any)  {}
func (r *recorder) Helper()                         {}
