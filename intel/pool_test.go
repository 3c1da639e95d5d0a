package intel

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestPool: functions run at once however many others hang, goroutines are used
// again, and all end when the pool is closed and they are done.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPool(t.Context(), &Config{})
		hang := make(chan struct{})
		var hanging sync.WaitGroup
		for range 10 {
			hanging.Add(1)
			c.run(func() {
				<-hang
				hanging.Done()
			})
		}
		for range 100 {
			ran := false
			c.run(func() { ran = true })
			synctest.Wait()
			require.True(t, ran)
		}
		select {
		case c.idle <- func() {}:
		default:
			t.Fatal("no goroutine is idle after a function has ended")
		}
		c.close()
		close(hang)
		hanging.Wait() // the test fails if a goroutine stays
	})
}
