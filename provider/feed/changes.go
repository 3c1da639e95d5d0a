package feed

import (
	"net/netip"
	"reflect"
	"sync"
)

// maxChanges is how many versions are remembered whose consequences are not
// settled. The latest ones are joined.
const maxChanges = 16

// changes are the differences between the versions of a list that are not settled
// yet. Its methods are safe for concurrent use.
type changes[T any] struct {
	mu      sync.Mutex
	version uint64
	pending []change
}

// change is how a version differs from the one before.
type change struct {
	version  uint64
	networks []netip.Prefix
}

// add takes note of a new version. It reports whether its rows differ.
func (c *changes[T]) add(was, is *Table[T]) (differs bool) {
	networks := difference(nil, was, is, func(a, b T) bool { return reflect.DeepEqual(a, b) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	if n := len(c.pending); n == maxChanges {
		c.pending[n-2].networks = append(c.pending[n-2].networks, c.pending[n-1].networks...)
		c.pending[n-2].version = c.pending[n-1].version
		c.pending = c.pending[:n-1]
	}
	c.pending = append(c.pending, change{c.version, networks})
	return len(networks) > 0
}

// Changed implements [provider.Listing].
func (f *Feed[T]) Changed(since uint64) (networks []netip.Prefix, version uint64) {
	c := &f.changes
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range c.pending {
		if change.version > since {
			networks = append(networks, change.networks...)
		}
	}
	return networks, c.version
}

// Settled implements [provider.Listing].
func (f *Feed[T]) Settled(version uint64) {
	c := &f.changes
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) > 0 && c.pending[0].version <= version {
		c.pending = c.pending[1:]
	}
	if len(c.pending) == 0 {
		f.forgetOld()
	}
}
