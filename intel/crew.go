package intel

// crew runs functions at once, each in a goroutine of its own. A goroutine that
// is done takes on another function, for a lookup needs more stack than a new
// goroutine has, and growing it is dear.
type crew struct{ idle chan func() }

func newCrew() crew { return crew{make(chan func())} }

// run starts f. It does not wait.
func (c crew) run(f func()) {
	select {
	case c.idle <- f:
	default:
		go func() {
			for more := true; more; f, more = <-c.idle {
				f()
			}
		}()
	}
}

// dismiss ends the goroutines that are idle, and the others when they are done.
// After it, run must not be called.
func (c crew) dismiss() { close(c.idle) }
