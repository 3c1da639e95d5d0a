package intel_test

import (
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if raceDetector {
		// In a bubble of synctest the race detector crashes where two threads run
		// timers at the same time: golang/go#78156.
		runtime.GOMAXPROCS(1)
	}
	goleak.VerifyTestMain(m)
}
