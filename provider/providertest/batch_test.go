package providertest_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

var batchBugs = []string{"leaves one out", "innocent when absent", "asks about private addresses", "swallows errors", "asks twice", "ignores its context"}

// batchHarness is that of a provider that takes many addresses, with a bug.
func batchHarness(bug string) providertest.Harness {
	return providertest.Harness{
		New: func(tb testing.TB, at providertest.Endpoint) provider.Provider {
			p, err := greynoise.New(greynoise.Options{
				KeyFunc: func() string { return at.Key }, BaseURL: at.BaseURL, Transport: at.Transport, Batch: true,
			})
			if err != nil {
				tb.Fatal(err)
			}
			return buggyBatch{p, bug}
		},
		Source: upstream.GreyNoise,
	}
}

type buggyBatch struct {
	*greynoise.Provider
	bug string
}

func (b buggyBatch) LookupBatch(ctx context.Context, addrs []netip.Addr) ([]provider.Finding, error) {
	switch b.bug {
	case "asks about private addresses":
		addrs = append([]netip.Addr{}, addrs...)
		for i := range addrs {
			if addrs[i].IsPrivate() {
				addrs[i] = addrB
			}
		}
	case "asks twice":
		_, _ = b.Provider.LookupBatch(ctx, addrs)
	case "ignores its context":
		ctx = context.WithoutCancel(ctx)
	}
	found, err := b.Provider.LookupBatch(ctx, addrs)
	switch b.bug {
	case "leaves one out":
		found = found[:min(len(found), 1)]
	case "innocent when absent":
		for i := range found {
			if !found[i].Known {
				found[i].Verdict = provider.Benign
			}
		}
	case "swallows errors":
		err = nil
	}
	return found, err
}
