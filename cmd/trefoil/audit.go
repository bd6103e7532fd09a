package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/audit"
	"github.com/trefoil-eu/trefoil/internal/proof/audit/secrets"
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
)

// newAuditCommand compares what a session sent with its records, byte by byte.
func newAuditCommand() *cobra.Command {
	var ciphertext, plaintext string
	cmd := &cobra.Command{
		Use:   "audit SESSION --ciphertext FILE|DIR",
		Short: "Compare the bytes that the monitor's valve kept of a session with its records, in the region",
		Long: "Open the ciphertext that the valve kept of a session (its file, or the directory with all of them) with the secrets that the\n" +
			"gateway kept, and compare the bytes with the commitments in the session's records, chunk by chunk, and the totals.\n" +
			"Run it in the region: what it opens is what the client read. Nothing of it is printed; --plaintext writes it to a file.\n" +
			"Exit code 3, and where it differs, if bytes differ, are in no record, cannot be opened, or a record does not verify.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if ciphertext == "" {
				return fmt.Errorf("%w: --ciphertext names what the valve kept", errUsage)
			}
			return auditSession(cmd, args[0], ciphertext, plaintext)
		},
	}
	cmd.Flags().StringVar(&ciphertext, "ciphertext", "", "the valve's file of the connection, or the directory of its files")
	cmd.Flags().StringVar(&plaintext, "plaintext", "", "a new file for what the client read: it holds what the dataset holds")
	return cmd
}

func auditSession(cmd *cobra.Command, session, ciphertext, plaintext string) error {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return err
	}
	c, err := enclave.Load(path)
	if err != nil {
		return err
	}
	in, err := auditInput(c, session, ciphertext)
	if err != nil {
		return err
	}
	defer in.Kept.Close()
	log, err := accesslog.OpenReader(c.Log.Directory)
	if err != nil {
		return err
	}
	defer log.Close()
	in.Log = log
	if plaintext != "" {
		in.Opened = func(x *audit.Stream) error { return writePlaintext(plaintext, x) }
	}
	r, err := audit.Run(cmd.Context(), *in)
	if err != nil {
		return err
	}
	if err := report(cmd, r, func() { printSessionAudit(cmd.OutOrStdout(), r) }); err != nil {
		return err
	}
	if !r.Holds {
		return fmt.Errorf("session %s %w: %s", session, errUnheld, r.Differences[0].Text)
	}
	return nil
}

// auditInput reads everything but the log.
func auditInput(c *enclave.Config, session, ciphertext string) (*audit.Input, error) {
	store, err := c.SessionSecrets()
	if err != nil {
		return nil, err
	}
	if store == nil || c.Log.Directory == "" {
		return nil, errors.New("the configuration names no session secrets (gateway.valve.secrets), or no log directory")
	}
	in := &audit.Input{}
	if in.Secrets, err = store.Read(session); errors.Is(err, secrets.ErrNone) || errors.Is(err, secrets.ErrKey) {
		return nil, fmt.Errorf("session %s %w: %w", session, errUnheld, err)
	} else if err != nil {
		return nil, err
	}
	if in.Trust, err = c.Trust(); err != nil {
		return nil, err
	}
	info, err := os.Stat(ciphertext)
	if err != nil {
		return nil, fmt.Errorf("read ciphertext: %w", err)
	}
	if info.IsDir() {
		if ciphertext, err = kept.Find(ciphertext, session, in.Secrets.Connection); err != nil {
			return nil, err
		}
	}
	in.Kept, err = kept.Read(ciphertext)
	return in, err
}

// writePlaintext writes a new file that its owner alone can read.
func writePlaintext(path string, x *audit.Stream) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write plaintext: %w", err)
	}
	_, err = io.Copy(f, io.NewSectionReader(x, 0, x.Size))
	return errors.Join(err, f.Close())
}

func printSessionAudit(w io.Writer, r *audit.Report) {
	fmt.Fprintf(w, "session:     %s, through connection %s\n", r.Session, r.Connection)
	fmt.Fprintf(w, "opened:      %d bytes of ciphertext, %d TLS records, %s, %d key updates: %d bytes to the client\n", r.Ciphertext, r.TLSRecords, r.Suite, r.Updates, r.Bytes)
	fmt.Fprintf(w, "matching:    %d of %d chunks, %d bytes: the digest of each is the one in its record\n", r.Matched, r.Chunks, r.Released)
	fmt.Fprintf(w, "others:      %d bytes of catalog reads and the gateway's own; the records allow %d\n", r.Others, r.Stated)
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note:       ", n)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(w, "differs:     %s: %s (bytes %d to %d)\n", d.Rule, d.Text, d.From, d.To)
	}
}
