package memstore_test

import (
	"testing"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
	"github.com/decnet/enrich/store/storetest"
)

var harness = storetest.Harness{
	New: func(testing.TB) store.Store { return memstore.New() },
}

func TestStore(t *testing.T) {
	storetest.Run(t, harness)
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, harness)
}
