package intel

// Prove makes the worker expect all its providers to be prompt, as it does once
// they have answered.
func (w *Worker) Prove() {
	for _, g := range w.gates {
		g.clock(prompted)
	}
}
