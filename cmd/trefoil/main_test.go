package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts run this binary as `trefoil`.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"trefoil": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(run(ctx, os.Args[1:]))
		},
	})
}

// TestScripts runs testdata/*.txtar: the promises to users, error texts included.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"makelog":  makeLog,
			"exitcode": exitCode,
			"alter":    alter,
			"servelog": serveLog,
		},
	})
}
