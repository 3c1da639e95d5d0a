package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// terminal is standard error: a writer of lines and, if it is a terminal, a
// progress bar below them. It is safe for concurrent use.
type terminal struct {
	mu    sync.Mutex
	w     io.Writer
	isTTY bool
	bar   string // as shown; empty for none
}

func newTerminal(w io.Writer) *terminal { return &terminal{w: w, isTTY: isTerminal(w)} }

// Write implements io.Writer. The bar moves down.
func (t *terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clear()
	n, err := t.w.Write(b)
	if bytes.HasSuffix(b, []byte("\n")) {
		t.draw()
	}
	return n, err
}

// clear and draw ignore errors: there is nobody to tell.
func (t *terminal) clear() {
	if t.bar != "" {
		_, _ = io.WriteString(t.w, "\r\x1b[K")
	}
}

func (t *terminal) draw() {
	_, _ = io.WriteString(t.w, t.bar)
}

func (t *terminal) show(bar string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clear()
	t.bar = bar
	t.draw()
}

// progress is a piece of work under way. It is safe for concurrent use.
type progress struct {
	done     atomic.Int64
	stopping chan struct{}
	drawing  sync.WaitGroup
}

// progress shows how much of total is done, until the piece of work ends. It
// shows nothing if t is no terminal.
func (t *terminal) progress(what string, total int) *progress {
	p := &progress{stopping: make(chan struct{})}
	if !t.isTTY {
		return p
	}
	started := time.Now()
	p.drawing.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				t.show(what + " " + bar(min(int(p.done.Load()), total), total, time.Since(started)))
			case <-p.stopping:
				t.show("")
				return
			}
		}
	})
	return p
}

// add says that n more are done.
func (p *progress) add(n int) { p.done.Add(int64(n)) }

// end removes the bar.
func (p *progress) end() {
	close(p.stopping)
	p.drawing.Wait()
}

// bar returns a progress bar of some 60 columns.
func bar(done, total int, took time.Duration) string {
	const width = 24
	full := width * done / max(total, 1)
	s := fmt.Sprintf("[%s%s] %s of %s", strings.Repeat("=", full), strings.Repeat(" ", width-full), thousands(done), thousands(total))
	if done > 0 && done < total && took > time.Second {
		left := took * time.Duration(total-done) / time.Duration(done)
		s += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return s
}
