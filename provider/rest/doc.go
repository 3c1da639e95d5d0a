// Package rest is for authors of providers that query a JSON API over HTTP.
//
// A provider is a [Client] and a Lookup of four steps: [Client.Admit] refuses
// addresses that must not leave, [Client.Do] sends one request, [Response.Decode]
// reads the answer, and [Response.Finding] starts the finding that Lookup
// completes. The example is such a provider in full; run package providertest
// on yours.
//
// What the client takes care of:
//
//   - It says nothing about who asks: a generic User-Agent, no cookie, no referrer.
//   - It makes one request. It follows no redirect and never retries; the worker
//     spaces retries for all providers.
//   - It reads at most Options.MaxBody bytes and waits at most until the context's
//     deadline, the body included.
//   - Every error is a [*provider.Error] of the right kind. Its text never holds a
//     key, a header, a path, a query or any part of a body.
//   - All clients of a process share one pool of connections.
//
// A key goes into a header ([Key]) and is read for each request, so it can be
// replaced while the provider runs.
//
// Services document one type and send another. The types [String], [Int],
// [Bool], [Strings] and [Ints] accept both.
package rest
