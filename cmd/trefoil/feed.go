package main

import "github.com/spf13/cobra"

// newFeedCommand is for those who rank with a model and must say why.
func newFeedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "feed",
		Short: "Rank with the operator's own model, and say why",
		Long:  "Rank with the operator's own tree model (LightGBM, XGBoost) and give true reasons for every item.",
	}
	// One file a subcommand, one line here each.
	cmd.AddCommand(
		newFeedAuditCommand(),
		newFeedCheckCommand(),
		newFeedDemoCommand(),
		newFeedExplainCommand(),
		newFeedSampleCommand(),
		newFeedServeCommand(),
	)
	return cmd
}
