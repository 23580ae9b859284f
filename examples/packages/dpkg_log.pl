#!/usr/bin/perl
# dpkg_log.pl [--native=ARCH] [--skip=N] [--statements] [FILE ...]: turns dpkg.log into rows for the table dpkg_log.
#
# dpkg writes three kinds of lines about a package (see dpkg.log in dpkg(1)):
#
#   DATE TIME status STATE PACKAGE VERSION
#   DATE TIME install|upgrade|configure|trigproc|disappear|remove|purge PACKAGE VERSION AVAILABLE-VERSION
#
# and others about itself (startup, conffile), which are left out. A row is, in COPY's text format:
#
#   at  package:architecture  event  status  version  available
#
# --native      the architecture of packages that a line names without one, and that no line before named with one
# --skip        leaves out the first N rows
# --statements  makes a COPY statement of each row, at once as its line arrives: for psql behind `tail -F`
use strict;
use warnings;
use Getopt::Long;

my ($native, $skip, $statements) = ('all', 0, 0);
GetOptions('native=s' => \$native, 'skip=i' => \$skip, 'statements' => \$statements)
  or die "usage: $0 [--native=ARCH] [--skip=N] [--statements] [FILE ...]\n";
$| = 1 if $statements;

my %arch;    # of each package, as last named

sub id
{
	my ($name) = @_;
	if ($name =~ /^(.+):(.+)$/) { $arch{$1} = $2; return $name; }
	return $name . ':' . ($arch{$name} // $native);
}

sub column
{
	my ($value) = @_;
	return '\N' if !defined $value || $value eq '<none>' || $value eq '';
	$value =~ s/\\/\\\\/g;
	return $value;
}

sub row
{
	my ($at, $what, @words) = @_;
	if ($what eq 'status' && @words == 3)
	{
		my ($status, $package, $version) = @words;
		return ($at, id($package), 'status', $status, $version, undef);
	}
	if ($what =~ /^(?:install|upgrade|configure|trigproc|disappear|remove|purge)$/ && @words == 3)
	{
		my ($package, $version, $available) = @words;
		return ($at, id($package), $what, undef, $version, $available);
	}
	return;
}

while (my $line = <>)
{
	$line =~ /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (\S+) (\S.*?)\s*$/ or next;
	my @row = row($1, $2, split(/ /, $3)) or next;
	next if $skip-- > 0;
	my $text = join("\t", map { column($_) } @row) . "\n";
	$text = "COPY dpkg_log (at, package, event, status, version, available) FROM STDIN;\n$text\\.\n" if $statements;
	print $text;
}
