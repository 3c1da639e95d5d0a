package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/store/sqlstore"
)

const (
	// minForget is the shortest time after which attackers are forgotten: less is a
	// slip of the pen.
	minForget = 24 * time.Hour
	// forgetBatch is how many attackers are forgotten in one transaction, and
	// forgetPause the time between two, in which others write.
	forgetBatch = 500
	forgetPause = 100 * time.Millisecond
)

// errTheirs is returned where attackers may not be removed.
var errTheirs = errors.New("its attackers are DECNET's, so enrichd forgets none of them")

// parseAge reads a duration that may be in days, like 180d.
func parseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, errors.New("it is neither a number of days, like 180d, nor a duration, like 4320h")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errors.New("it is neither a number of days, like 180d, nor a duration, like 4320h")
	}
	return d, nil
}

// forgetDaily forgets attackers once a day until ctx is done.
func (d *daemon) forgetDaily(ctx context.Context, age time.Duration) {
	for {
		wait := 24 * time.Hour
		switch err := d.forgetUnseen(ctx, age); {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errTheirs):
			d.log.Warn("-forget has no effect", "error", err)
			return
		case err != nil: // perhaps the tables are not there yet
			d.log.Error("cannot forget attackers; trying again", "error", err)
			wait = time.Minute
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// forgetUnseen forgets the attackers that were not seen for the given time. The
// database must not be DECNET's.
func (d *daemon) forgetUnseen(ctx context.Context, age time.Duration) error {
	if err := ownAttackers(ctx, d.database, d.store); err != nil {
		return err
	}
	before, all := time.Now().Add(-age), 0
	for {
		n, err := d.store.ForgetUnseen(ctx, before, forgetBatch)
		if err != nil {
			return fmt.Errorf("forget attackers: %w", err)
		}
		if all += n; n < forgetBatch {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(forgetPause):
		}
	}
	d.log.Info("forgot attackers", "attackers", all, "unseen_since", before)
	return nil
}

// ownAttackers returns an error if the attackers of a database are DECNET's.
func ownAttackers(ctx context.Context, d database, s *sqlstore.Store) error {
	owns, err := s.OwnsAttackers(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%v: %w", d, err)
	case !owns:
		return fmt.Errorf("%v: %w", d, errTheirs)
	}
	return nil
}
