package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Attackers is a store that this service can use. memstore and sqlstore are
// such stores.
type Attackers interface {
	store.Store
	store.Registrar
	store.Lister
}

// Service blocks addresses from which somebody tried to log in and which a
// provider calls malicious. Its methods are safe for concurrent use.
type Service struct {
	attackers Attackers
	bus       intel.Bus
	worker    *intel.Worker
	log       *slog.Logger

	mu      sync.Mutex
	blocked map[netip.Addr]bool
}

// NewService returns a service that asks the providers about each attacker. It
// does no I/O.
func NewService(attackers Attackers, b intel.Bus, log *slog.Logger, providers ...intel.Provider) (*Service, error) {
	w, err := intel.NewWorker(intel.Config{Store: attackers, Bus: b, Providers: providers, Logger: log})
	if err != nil {
		return nil, err
	}
	return &Service{attackers: attackers, bus: b, worker: w, log: log, blocked: map[netip.Addr]bool{}}, nil
}

// LoginFailed registers an attacker. It does not wait for a verdict.
func (s *Service) LoginFailed(ctx context.Context, addr netip.Addr) error {
	err := s.attackers.Observe(ctx, store.Attacker{ID: store.AttackerID(addr), IP: addr.String(), LastSeen: time.Now().UTC()})
	s.worker.Wake()
	return err
}

// Blocked reports whether addr may not connect.
func (s *Service) Blocked(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocked[addr]
}

// Run enriches attackers and reacts to verdicts until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.worker.Run(ctx) })
	group.Go(func() error { return s.listen(ctx) })
	return group.Wait()
}

// React blocks or unblocks the attacker that an event is about. The event says
// that something was learnt; the record says what is true now.
func (s *Service) React(ctx context.Context, ev bus.Event) error {
	enriched, err := intel.ParseEnriched(ev.Payload)
	if err != nil {
		return fmt.Errorf("event %s: %w", ev.ID, err)
	}
	r, err := s.attackers.Get(ctx, enriched.AttackerUUID)
	if err != nil {
		return fmt.Errorf("attacker %s: %w", enriched.AttackerUUID, err)
	}
	s.decide(&r)
	return nil
}

// decide blocks or unblocks an attacker according to its record.
func (s *Service) decide(r *store.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Decision.Verdict == provider.Malicious {
		s.blocked[r.Addr()] = true
	} else {
		delete(s.blocked, r.Addr())
	}
}

// pause is the time between two attempts to follow the verdicts.
const pause = time.Second

// listen follows the verdicts until ctx is done.
func (s *Service) listen(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.follow(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot follow the verdicts; trying again", "error", err, "in", pause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// follow subscribes, reads what it may have missed, and then reacts to each
// verdict, until ctx is done or something fails.
func (s *Service) follow(ctx context.Context) error {
	verdicts, err := s.bus.Subscribe(ctx, intel.TopicEnriched)
	if err != nil {
		return err
	}
	defer func() { _ = verdicts.Close() }() // it ends in any case
	if err := s.load(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, open := <-verdicts.Events():
			if !open {
				return verdicts.Err()
			}
			if err := s.React(ctx, ev); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
	}
}

// load decides on every attacker that something is known about.
func (s *Service) load(ctx context.Context) error {
	req := store.ListRequest{Limit: 500, Enriched: true}
	for {
		page, err := s.attackers.List(ctx, req)
		if err != nil {
			return err
		}
		for i := range page.Records {
			s.decide(&page.Records[i])
		}
		if req.Cursor = page.Next; req.Cursor == "" {
			return nil
		}
	}
}
