// Package intelmock has mocks of the interfaces a worker works with, for tests
// that say which calls they expect; see go.uber.org/mock/gomock. Where a fake
// that behaves is of more use, take packages memstore, membus and providertest.
package intelmock

// -modfile and go.work exclude each other.
//go:generate -command mockgen env GOWORK=off go tool -modfile=../../tools.mod mockgen -typed -write_package_comment=false -package=intelmock

//go:generate mockgen -destination=provider.go github.com/decnet/enrich/provider Provider
//go:generate mockgen -destination=store.go github.com/decnet/enrich/store Store
//go:generate mockgen -destination=bus.go github.com/decnet/enrich/bus Bus,Subscription
