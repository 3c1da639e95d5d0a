package intel

import (
	"runtime/debug"

	"github.com/decnet/enrich/intel/internal/gate"
)

// safely calls f, which calls code of the embedder, and returns a panic as a
// [*gate.PanicError].
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &gate.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
