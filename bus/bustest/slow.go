package bustest

import (
	"testing"

	"github.com/decnet/enrich/bus"
)

// flood publishes four times as many events as a subscription holds and
// returns their number.
func (f *fixture) flood(topic string) int {
	f.Helper()
	count := 4 * f.h.Buffer
	f.publishAll(count, func(n int) bus.Event { return numbered(topic, n) })
	return count
}

func publishNeverWaits(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	for range 3 {
		f.subscribe("flood") // and never read
	}
	f.flood("flood")
	f.publish("flood")
}

// oldestDropped lets one subscriber be stuck until another has seen the last
// event, and then looks at what the first has kept.
func oldestDropped(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	stuck, witness := f.subscribe("flood"), f.subscribe("flood")
	count := f.flood("flood")
	f.publish("flood.end")
	for number(f, f.receive(witness)) != count-1 {
	}
	kept, last := 0, -1
	for last != count-1 {
		n := number(f, f.receive(stuck))
		if n <= last {
			f.Fatalf("received number %d after number %d", n, last)
		}
		kept, last = kept+1, n
	}
	switch {
	case kept > f.h.Buffer:
		f.Errorf("a subscriber that did not read has kept %d events, want at most %d", kept, f.h.Buffer)
	case kept < f.h.Buffer/8:
		f.Errorf("a subscriber that did not read has kept %d events, want about %d", kept, f.h.Buffer)
	}
	f.alive(stuck)
}

func slowDelaysNobody(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	f.subscribe("flood") // and never read
	quick := f.subscribe("flood")
	for n := range 2*f.h.Buffer + 1 {
		f.publishAll(1, func(int) bus.Event { return numbered("flood", n) })
		f.receiveNumbered(quick, n)
	}
}
