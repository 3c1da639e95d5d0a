package main

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/export"
)

// webhooks reads the flags of webhooks. What it returns lacks the outboxes.
func (e *environment) webhooks(o options) (all []export.WebhookOptions) {
	files := o.webhookSecrets
	switch {
	case len(o.webhooks) == 0:
		if len(files) > 0 {
			e.refuse("-webhook-secret-file needs a -webhook")
		}
		return nil
	case len(files) != 1 && len(files) != len(o.webhooks):
		e.refuse("there are %d -webhook and %d -webhook-secret-file; name one file for all, or one for each", len(o.webhooks), len(files))
		return nil
	}
	for i, url := range o.webhooks {
		if slices.Contains(o.webhooks[:i], url) {
			e.refuse("-webhook: number %d is there already", i+1)
			continue
		}
		secrets, err := readKey(files[min(i, len(files)-1)])
		if err != nil {
			e.refuse("-webhook-secret-file: %w", err)
			continue
		}
		w := export.WebhookOptions{URL: url, Secrets: strings.Fields(secrets), AllowInternal: o.webhookInternal}
		if err := w.Validate(); err != nil {
			e.refuse("-webhook: %w", err)
			continue
		}
		all = append(all, w)
	}
	return all
}

// readers returns the names of the webhooks' outboxes.
func (c *config) readers() []string {
	var names []string
	for _, w := range c.webhooks {
		names = append(names, export.WebhookReader(w.URL))
	}
	return names
}

// openWebhooks makes the webhooks.
func (d *daemon) openWebhooks() error {
	d.receivers = make(map[string]string)
	for _, o := range d.config.webhooks {
		reader := export.WebhookReader(o.URL)
		d.receivers[reader] = o.Host()
		o.Outbox, o.Logger = d.store.OutboxOf(reader), d.log
		w, err := export.NewWebhook(o)
		if err != nil {
			return err
		}
		d.posts = append(d.posts, w)
	}
	return nil
}

// wakeWebhooks makes the hook of the worker wake the webhooks as well.
func (d *daemon) wakeWebhooks(h intel.Hooks) intel.Hooks {
	saved := h.Saved
	h.Saved = func(i intel.SavedInfo) {
		saved(i)
		for _, w := range d.posts {
			w.Wake()
		}
	}
	return h
}

// deliver runs the webhooks until ctx is done. None delays another, or the worker.
func (d *daemon) deliver(ctx context.Context) error {
	var group errgroup.Group
	for _, w := range d.posts {
		group.Go(func() error { return w.Run(ctx) })
	}
	return group.Wait()
}

// deliverOnce delivers what is in the outboxes of the webhooks. What cannot be
// delivered stays there.
func (d *daemon) deliverOnce(ctx context.Context) {
	for _, w := range d.posts {
		if err := w.Drain(ctx); err != nil {
			d.log.Warn("cannot deliver all events", "error", err)
		}
	}
}
