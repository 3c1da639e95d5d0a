package intel

// signal says that there is something to do. However often it is sent, it is
// received once, and never before it was sent for the last time. Make it with
// capacity 1. It is safe for concurrent use.
type signal chan struct{}

// send never blocks.
func (s signal) send() {
	select {
	case s <- struct{}{}:
	default: // sent and not received yet
	}
}
