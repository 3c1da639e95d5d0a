package bustest_test

import (
	"context"
	"errors"
	"sync"

	"github.com/decnet/enrich/bus"
)

// wrapping returns a bug of subscriptions.
func wrapping(breakIt func(b *broken, s *subscription)) func(b *broken) {
	return func(b *broken) {
		b.wrap = func(_ string, sub bus.Subscription) bus.Subscription {
			s := newSubscription(sub)
			breakIt(b, s)
			return s
		}
	}
}

var errOther = errors.New("something else")

// closedTwice fails the second call of a Close.
func closedTwice(closeIt func() error) func() error {
	var mu sync.Mutex
	closed := false
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			return bus.ErrClosed
		}
		closed = true
		return closeIt()
	}
}

// drain throws away what a closed subscription still holds.
func drain(sub bus.Subscription) {
	for range sub.Events() {
	}
}

// otherError ends subscriptions for no known reason.
var otherError = wrapping(func(_ *broken, s *subscription) {
	s.err = func() error {
		if s.Subscription.Err() != nil {
			return errOther
		}
		return nil
	}
})

// noError ends subscriptions for no reason at all.
var noError = wrapping(func(_ *broken, s *subscription) { s.err = func() error { return nil } })

// neverEnding leaves Events open.
var neverEnding = wrapping(func(b *broken, s *subscription) {
	events := make(chan bus.Event, buffer)
	go func() {
		for ev := range s.Subscription.Events() {
			events <- ev
		}
		<-b.done
		close(events)
	}()
	s.events = func() <-chan bus.Event { return events }
})

var endBugs = bugs{
	"CloseSubscription": {
		"undelivered thrown away": wrapping(func(_ *broken, s *subscription) {
			s.close = func() error {
				err := s.Subscription.Close()
				drain(s.Subscription)
				return err
			}
		}),
		"does nothing":       wrapping(func(_ *broken, s *subscription) { s.close = func() error { return nil } }),
		"second Close fails": wrapping(func(_ *broken, s *subscription) { s.close = closedTwice(s.Subscription.Close) }),
		"another error":      otherError,
		"no error":           noError,
		"never ends":         neverEnding,
		"fails": wrapping(func(_ *broken, s *subscription) {
			s.close = func() error { _ = s.Subscription.Close(); return errOther }
		}),
	},
	"CloseOneOfTwo": {
		"closes all": wrapping(func(b *broken, s *subscription) {
			s.close = func() error {
				for _, other := range b.subs {
					_ = other.(*subscription).Subscription.Close()
				}
				return nil
			}
		}),
		"closes those of the same pattern": wrapping(func(b *broken, s *subscription) {
			s.close = func() error {
				for i, other := range b.subs {
					if b.pattern[i] == b.pattern[0] {
						_ = other.(*subscription).Subscription.Close()
					}
				}
				return nil
			}
		}),
		"second Close fails": wrapping(func(_ *broken, s *subscription) { s.close = closedTwice(s.Subscription.Close) }),
	},
	"CloseBus": {
		"does nothing": func(b *broken) { b.close = func() error { return nil } },
		"subscriptions stay": func(b *broken) {
			closed := false
			b.close = func() error { closed = true; return nil }
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if closed {
					return bus.ErrClosed
				}
				return b.Bus.Publish(ctx, ev)
			}
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				if closed {
					return nil, bus.ErrClosed
				}
				return b.Bus.Subscribe(ctx, p)
			}
		},
		"only the first ends": func(b *broken) {
			b.close = func() error { return b.subs[0].Close() }
		},
		"second Close fails": func(b *broken) { b.close = closedTwice(b.Bus.Close) },
		"lost":               func(b *broken) { b.close = func() error { b.Bus.Lose(); return nil } },
		"Publish goes on": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if err := b.Bus.Publish(ctx, ev); !errors.Is(err, bus.ErrClosed) {
					return err
				}
				return nil
			}
		},
		"Publish fails otherwise": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if b.Bus.Publish(ctx, ev) != nil {
					return errOther
				}
				return nil
			}
		},
		"Subscribe goes on": func(b *broken) {
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				sub, err := b.Bus.Subscribe(ctx, p)
				if errors.Is(err, bus.ErrClosed) {
					return b.subs[0], nil
				}
				return sub, err
			}
		},
		"another error": otherError,
		"no error":      noError,
		"hangs":         func(b *broken) { b.close = func() error { <-b.done; return nil } },
		"late Close fails": wrapping(func(b *broken, s *subscription) {
			s.close = func() error {
				if err := s.Subscription.Err(); err != nil {
					return err
				}
				return s.Subscription.Close()
			}
		}),
	},
	"CloseWhileReceiving": {
		"never ends": neverEnding,
		"no error":   noError,
		"hangs": wrapping(func(b *broken, s *subscription) {
			s.close = func() error { <-b.done; return s.Subscription.Close() }
		}),
		"the bus stays": func(b *broken) { b.close = func() error { return nil } },
		"closes once":   wrapping(func(_ *broken, s *subscription) { s.close = closedTwice(s.Subscription.Close) }),
	},
	"CloseWhilePublishing": {
		"Publish fails otherwise": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if b.Bus.Publish(ctx, ev) != nil {
					return errOther
				}
				return nil
			}
		},
		"Subscribe fails otherwise": func(b *broken) {
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				sub, err := b.Bus.Subscribe(ctx, p)
				if err != nil {
					return nil, errOther
				}
				return sub, nil
			}
		},
		"Publish hangs": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				err := b.Bus.Publish(ctx, ev)
				if err != nil {
					<-b.done
				}
				return err
			}
		},
		"stays open": func(b *broken) { b.close = func() error { return nil } },
	},
}

var lostBugs = bugs{
	"Lost": {
		"unnoticed":     func(b *broken) { b.lose = func() {} },
		"closed":        func(b *broken) { b.lose = func() { _ = b.Bus.Close() } },
		"another error": otherError,
		"no error":      noError,
		"never ends":    neverEnding,
		"Publish goes on": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error { return nil }
		},
		"Subscribe goes on": func(b *broken) {
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				sub, err := b.Bus.Subscribe(ctx, p)
				if errors.Is(err, bus.ErrLost) {
					return b.subs[0], nil
				}
				return sub, err
			}
		},
		"Publish waits for it": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				err := b.Bus.Publish(ctx, ev)
				if errors.Is(err, bus.ErrLost) {
					<-b.done
				}
				return err
			}
		},
		"Close changes the reason": wrapping(func(_ *broken, s *subscription) {
			closed := false
			s.close = func() error { closed = true; return s.Subscription.Close() }
			s.err = func() error {
				if closed {
					return bus.ErrClosed
				}
				return s.Subscription.Err()
			}
		}),
		"Close fails": wrapping(func(_ *broken, s *subscription) { s.close = s.Subscription.Err }),
	},
	"LostThenClosed": {
		"Close fails":      func(b *broken) { b.close = func() error { return bus.ErrLost } },
		"Close waits":      func(b *broken) { b.close = func() error { <-b.done; return nil } },
		"still only lost":  func(b *broken) { b.close = func() error { return nil } },
		"Restore on Close": func(b *broken) { b.close = func() error { b.Bus.Restore(); return nil } },
	},
	"SubscribeAgain": {
		"never restored": func(b *broken) { b.restore = func() {} },
		"restored deaf": func(b *broken) {
			b.restore = func() {
				b.Bus.Restore()
				b.publish = func(context.Context, bus.Event) error { return nil }
			}
		},
		"Publish stays lost": func(b *broken) {
			b.restore = func() {
				b.Bus.Restore()
				b.publish = func(context.Context, bus.Event) error { return bus.ErrLost }
			}
		},
		"ended at once": func(b *broken) {
			b.restore = func() {
				b.Bus.Restore()
				b.wrap = func(_ string, sub bus.Subscription) bus.Subscription { _ = sub.Close(); return sub }
			}
		},
		"comes back": func(b *broken) { // without ever telling that it was gone
			b.lose = func() {}
		},
		"reason forgotten": wrapping(func(b *broken, s *subscription) {
			s.err = func() error {
				if len(b.subs) > 1 {
					return nil
				}
				return s.Subscription.Err()
			}
		}),
	},
}
