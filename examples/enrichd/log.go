package main

import (
	"cmp"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
)

func newLogger(o options, w io.Writer) *slog.Logger {
	ho := &slog.HandlerOptions{Level: o.logLevel}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, ho))
	}
	return slog.New(slog.NewTextHandler(w, ho))
}

// version is set by the linker, with -ldflags "-X main.version=v1.2.3". Without
// that, the version is the one in the build information.
var version string

func versionLine() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok {
		v = cmp.Or(v, info.Main.Version)
	}
	return "enrichd " + cmp.Or(v, "(devel)") + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
}
