// Package intelmock has mocks of the interfaces that a worker uses, made with
// go.uber.org/mock/gomock. Use them in tests about which calls are made and in
// which order, and about failures that fakes do not have. For all other tests the
// fakes are simpler: packages memstore, membus and providertest. The tests of
// examples/embed show both.
package intelmock

// -modfile and go.work exclude each other.
//go:generate -command mockgen env GOWORK=off go tool -modfile=../../tools.mod mockgen -typed -write_package_comment=false -package=intelmock

//go:generate mockgen -destination=provider.go github.com/decnet/enrich/provider Provider
//go:generate mockgen -destination=store.go github.com/decnet/enrich/store Store
//go:generate mockgen -destination=bus.go github.com/decnet/enrich/bus Bus,Subscription
