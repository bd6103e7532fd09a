package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// newKeySucceedCommand signs that one key takes over from another.
func newKeySucceedCommand() *cobra.Command {
	var old, oldVkey, regulator, out, from string
	var overlap time.Duration
	cmd := &cobra.Command{
		Use:   "succeed log|witness|permit NEW-VKEY --old FILE | --old-vkey VKEY --regulator FILE",
		Short: "Sign that a new key takes over from an old one, with an overlap in which both count",
		Long: "Sign that a new key takes over from an old one. The outgoing key signs; where it is lost, a regulator's key does, which verifiers must be told to trust. " +
			"Verifiers take the note with trefoil verify --succession FILE; without it a replaced key verifies nothing.",
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := trefoil.Succession{Use: args[0], Old: oldVkey, New: args[1], From: time.Now().UTC().Truncate(time.Second)}
			signer := regulator
			if regulator == "" {
				signer = old
			}
			if (old == "") == (oldVkey == "") || signer == "" {
				return fmt.Errorf("%w: --old FILE, or --old-vkey VKEY with --regulator FILE", errUsage)
			}
			var err error
			if old != "" {
				if s.Old, err = monitor.ReadVerifierKey(args[0], old); err != nil {
					return err
				}
			}
			if from != "" {
				if s.From, err = time.Parse(time.RFC3339, from); err != nil {
					return fmt.Errorf("%w: --from is a time such as 2026-12-01T00:00:00Z", errUsage)
				}
			}
			s.Until = s.From.Add(overlap.Truncate(time.Second))
			k, err := monitor.ReadSigner(signer)
			if err != nil {
				return err
			}
			text, err := trefoil.SignSuccession(s, k)
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			if out != "" {
				if err := os.WriteFile(out, []byte(text), 0o644); err != nil {
					return fmt.Errorf("write succession: %w", err)
				}
			}
			return report(cmd, map[string]string{"succession": text}, func() { fmt.Fprint(cmd.OutOrStdout(), text) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&old, "old", "", "file with the outgoing signing key, which signs")
	f.StringVar(&oldVkey, "old-vkey", "", "the outgoing key's vkey, where the key itself is lost")
	f.StringVar(&regulator, "regulator", "", "file with a regulator's signing key, which signs in its place")
	f.StringVar(&from, "from", "", "when the new key begins to count; default now")
	f.DurationVar(&overlap, "overlap", 7*24*time.Hour, "how long the old key counts on")
	f.StringVar(&out, "out", "", "file for the note")
	return cmd
}

// takeUp reads successions from files and has t take them up, in their order.
func takeUp(t *trefoil.Trust, regulators, files []string) error {
	for _, vkey := range regulators {
		v, err := newRegulator(vkey)
		if err != nil {
			return err
		}
		t.Regulators = append(t.Regulators, v)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read succession: %w", err)
		}
		if err := t.Succeed(string(text)); err != nil {
			return fmt.Errorf("%s %w: %w", strings.TrimSpace(file), errUnheld, err)
		}
	}
	return nil
}

func newRegulator(vkey string) (note.Verifier, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("%w: --regulator-key must be a vkey", errUsage)
	}
	return v, nil
}
