package intake

import (
	"context"
	"errors"
	"sync"

	"github.com/decnet/enrich/store"
)

// maxCombined is how many attackers of several requests are stored at once.
const maxCombined = 4000

// combiner stores the attackers of requests that come at the same time in one
// transaction. One request at a time stores what has come by then; the others wait
// for it.
type combiner struct {
	mu      sync.Mutex
	waiting []*pending // in the order in which they came
	busy    bool       // one of the requests is storing
}

// pending are the attackers of a request.
type pending struct {
	attackers []store.Attacker
	turn      chan struct{} // it is this request's turn to store
	done      chan error    // another request has stored them, or failed to
}

// errAborted is returned to requests whose attackers another one did not store
// because it panicked.
var errAborted = errors.New("intake: storing was aborted")

// observe stores attackers, together with those of other requests.
func (c *combiner) observe(ctx context.Context, attackers []store.Attacker, store func(context.Context, []store.Attacker) error) error {
	me := &pending{attackers: attackers, turn: make(chan struct{}, 1), done: make(chan error, 1)}
	c.mu.Lock()
	c.waiting = append(c.waiting, me)
	if !c.busy {
		c.busy = true
		me.turn <- struct{}{}
	}
	c.mu.Unlock()
	select {
	case err := <-me.done:
		return err
	case <-me.turn: // and me is the first that waits
	}
	group := c.take()
	err := errAborted
	defer func() {
		for _, other := range group[1:] {
			other.done <- err
		}
		c.next()
	}()
	all := attackers
	for _, other := range group[1:] {
		all = append(all, other.attackers...)
	}
	// The others do not depend on the connection of this request.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	err = store(bounded, all)
	return err
}

// take removes the first of those that wait, and as many others as are stored with
// it.
func (c *combiner) take() []*pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 1, len(c.waiting[0].attackers)
	for n < len(c.waiting) && size+len(c.waiting[n].attackers) <= maxCombined {
		size += len(c.waiting[n].attackers)
		n++
	}
	group := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	return group
}

// next makes it the turn of the first of those that wait.
func (c *combiner) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.waiting, c.busy = nil, false
		return
	}
	c.waiting[0].turn <- struct{}{}
}
