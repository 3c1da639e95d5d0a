package rest

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/decnet/enrich/provider"
)

// delivery notes how far a request came on its way to the service. The zero value
// is a request that was not handed to the transport.
type delivery struct {
	begun     bool        // the transport has it
	err       error       // what the transport returned; nil if it returned an answer
	waits     atomic.Bool // the transport reported that it looks for a connection
	connected atomic.Bool // the transport reported that it has one, after the proxy and TLS
}

// watch returns a context for the request. A transport of net/http reports to it.
func (d *delivery) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { d.waits.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { d.connected.Store(true) },
	})
}

// mark sets Unsent of a request's error, if it is one.
func (d *delivery) mark(err *error) {
	if e, ok := errors.AsType[*provider.Error](*err); ok {
		_, proxy := errors.AsType[*proxyError](e.Err) // the proxy did not pass it on
		e.Unsent = proxy || d.unsent()
	}
}

// unsent reports whether the service certainly did not receive the request. A
// transport that does not report is judged by its error.
func (d *delivery) unsent() bool {
	switch {
	case !d.begun:
		return true
	case d.connected.Load(), d.err == nil:
		return false
	case d.waits.Load():
		return true
	}
	return provider.Unsent(d.err)
}
