package intel

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestCrew: functions run at once however many others hang, goroutines are used
// again, and all end when they are dismissed and done.
func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew()
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
			t.Fatal("nobody is idle after a function has ended")
		}
		c.dismiss()
		close(hang)
		hanging.Wait() // the test fails if a goroutine stays
	})
}
