"""One SAE on several data sets, two SAEs on one, several sites, and whether what comes in has changed."""
