package main

import (
	"errors"
	"sync"
	"time"

	"github.com/decnet/enrich/intel"
)

// pulse tells whether the worker is alive. The zero value has seen no sign of
// it.
type pulse struct {
	mu     sync.Mutex
	last   time.Time // when it did anything
	looked bool      // at the store
	err    error     // of the last look
	idle   bool      // it has no providers, and so never looks
}

// rest says that the worker has no providers: it is alive and ready without a
// sign of it.
func (p *pulse) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = true
}

// hooks returns what the worker has to call.
func (p *pulse) hooks() intel.Hooks {
	return intel.Hooks{
		Pass: func(i intel.PassInfo) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.last, p.looked, p.err = time.Now(), true, i.Err
		},
		// A pass over a million attackers takes long.
		Claim: func(i intel.ClaimInfo) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.last = time.Now(); !p.looked || i.Err != nil {
				p.looked, p.err = true, i.Err
			}
		},
		Saved: func(intel.SavedInfo) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.last, p.err = time.Now(), nil
		},
	}
}

// since returns how long ago the worker did something.
func (p *pulse) since() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle {
		return 0
	}
	return time.Since(p.last)
}

// ready returns nil if the worker could use the store when it last looked.
func (p *pulse) ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.looked && !p.idle {
		return errors.New("the worker has not seen the database yet")
	}
	return p.err
}
