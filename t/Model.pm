# Model: an oracle. It reads what programs of t/programs.sql are given from outside, and predicts logs, states and dead
# letters from what the documentation says, with no look at the engine: instances with their mail, of which the first by
# (at, origin, number) is always handled next. Program, below it, draws such programs at random.
#
# Times are microseconds since virtual_begin().
package Model;

use strict;
use warnings;
use JSON::PP;

use constant AT_ONCE => -(2**62);
my $json = JSON::PP->new->canonical->allow_nonref;

# Options: workflows => {name => {max_attempts, on_failure, retry_delay, dead_letter_events}}, by => the role that gives inputs.
sub new { my ($class, %option) = @_; return bless { %option, instances => {}, letters => [], dead => [], number => 0 }, $class; }

# One text for equal values, numbers and their texts taken as the same.
sub text { return $json->encode(plain($_[0])); }

sub plain
{
	my ($value) = @_;
	return { map { $_ => plain($value->{$_}) } keys %$value } if ref $value eq 'HASH';
	return [ map { plain($_) } @$value ] if ref $value eq 'ARRAY';
	return defined $value ? "$value" : undef;
}

sub is_closed { return $_[0]{status} !~ /^(running|paused)$/; }
sub clock { my ($i) = @_; return $i->{clock} // $i->{started}; }
sub before { my ($x, $y) = @_; return ($x->{at} <=> $y->{at} || $x->{origin} <=> $y->{origin} || $x->{number} <=> $y->{number}) < 0; }
sub in_order { return sort { before($a, $b) ? -1 : 1 } @_; }

sub create
{
	my ($m, $id, $workflow, $at, $input, %option) = @_;
	my $i = $m->{instances}{$id} = {
		id => $id, workflow => $m->{workflows}{$workflow}, started => $at, status => 'running', attempts => 0, retry_at => AT_ONCE,
		state => {}, attributes => {}, links => {}, keys => {}, log => [], mail => [], aside => [], %option };
	push @{ $i->{mail} }, { name => 'start', at => $at, origin => 0, number => ++$m->{number}, payload => $input, sender => $option{sender} };
	return $i;
}

#
# From outside
#
sub input
{
	my ($m, $now, $verb, $id, @a) = @_;
	my $i = $m->{instances}{$id};
	if ($verb eq 'start')
	{
		$m->create($id, $a[0], $a[1], $a[2], live_from => $a[3]) unless $i;
		return;
	}
	if ($verb eq 'send' && !$i && $a[4]) { $i = $m->create($id, $a[4], $a[1], {}, live_from => live_from($a[1], $now)); }
	return if !$i || is_closed($i);
	my $post = sub { push @{ $i->{mail} }, { at => AT_ONCE, origin => 0, number => ++$m->{number}, @_ } };
	my $why = { by => $m->{by}, defined $a[0] && !ref $a[0] && $verb ne 'resume' ? (reason => $a[0]) : () };
	if ($verb eq 'send')
	{
		return if defined $a[3] && exists $i->{keys}{ $a[3] };
		$i->{keys}{ $a[3] } = text([ @a[ 0, 2, 1 ] ]) if defined $a[3];
		$post->(name => $a[0], at => $a[1], payload => $a[2], key => $a[3]);
	}
	elsif ($verb eq 'cancel')
	{
		return if $i->{cancelling} || grep { $_->{name} eq 'cancel' } @{ $i->{mail} }, @{ $i->{aside} };
		$post->(name => 'cancel', at => $now, payload => $why);
		$post->(name => '$terminate', at => $now + $a[1],
			payload => { by => $m->{by}, reason => 'the deadline of a cancel has passed' }) if defined $a[1];
	}
	elsif ($verb eq 'attributes')
	{
		$post->(name => '$attributes', payload => { by => $m->{by}, attributes => $a[0] })
		  if text(merged($i->{attributes}, $a[0])) ne text($i->{attributes});
	}
	elsif ($verb eq 'skip')
	{
		# the first of its mail, which is the one that fails unless an older one has come since
		my ($first) = in_order(grep { $_->{name} !~ /^\$/ } @{ $i->{mail} });
		return if !$i->{attempts} || !$first || grep { $_->{name} eq 'start' } @{ $i->{mail} };
		$i->{failing} = $first;
		$post->(name => '$skip', payload => $why);
	}
	elsif ($verb eq 'reschedule')
	{
		my ($timer) = in_order(grep { $_->{timer} } @{ $i->{mail} });
		$post->(name => '$reschedule', payload => { by => $m->{by}, timer => $timer->{timer} }, moves => $timer, to => $a[0]) if $timer;
	}
	else { $post->(name => $verb eq 'retry_now' ? '$retry' : "\$$verb", payload => $why); }
	return;
}

# Handles what is due; a step with more actions than that fails.
sub run
{
	my ($m, $now, $max_actions) = @_;
	while (my ($i, $mail) = $m->next_mail($now))
	{
		if   ($mail->{name} =~ /^\$/) { take($i, $mail); $m->control($i, $mail); }
		else                          { $m->handle($i, $mail, $now, $max_actions); }
		while (my $letter = shift @{ $m->{letters} }) { $m->deliver($letter); }
	}
	return;
}

sub next_mail
{
	my ($m, $now) = @_;
	my @first;
	for my $i (grep { !is_closed($_) } values %{ $m->{instances} })
	{
		my $goes_on = $i->{status} eq 'running' && $i->{retry_at} <= $now;
		for my $mail (@{ $i->{mail} })
		{
			next if $mail->{at} > $now || (@first && !before($mail, $first[1]));
			@first = ($i, $mail)
			  if $mail->{at} == AT_ONCE || ($goes_on ? $i->{begun} || $mail->{name} eq 'start' : 0)
			  || $mail->{name} eq '$terminate' && (!$goes_on || !$i->{begun} && $mail->{at} < clock($i));
		}
	}
	return @first;
}

# By default: the stamp of start, where that is at most an hour old, else the time of the call.
sub live_from { my ($at, $now) = @_; return $at >= $now - 3_600_000_000 && $at <= $now ? $at : $now; }

sub take { my ($i, $mail) = @_; @{ $i->{mail} } = grep { $_ != $mail } @{ $i->{mail} }; return; }

sub log_event
{
	my ($i, $mail, $at, $reply) = @_;
	my $live = defined $i->{clock} && $i->{clock} >= $i->{live_from} ? 1 : 0;
	push @{ $i->{log} }, [ 1 + @{ $i->{log} }, $at, @$mail{qw(name payload sender key)}, $reply, $live ];
	return;
}

# Control events are logged at the clock; what takes the place of an event, and a deadline, at its stamp.
sub log_engine
{
	my ($i, $name, $payload, $at) = @_;
	$i->{clock} = $at != AT_ONCE && ($at > clock($i) || !defined $i->{clock}) ? $at : clock($i);
	return log_event($i, { name => $name, payload => $payload }, $i->{clock});
}

sub clear_failures { my ($i) = @_; @$i{qw(attempts retry_at error)} = (0, AT_ONCE, undef); return; }

#
# A step
#
sub handle
{
	my ($m, $i, $mail, $now, $max_actions) = @_;
	my $clock = defined $i->{clock} && $i->{clock} > $mail->{at} ? $i->{clock} : $mail->{at};
	my $step = { i => $i, mail => $mail, now => $clock, actions => [], max => $max_actions };
	my $state = eval { my $new = program($step); die $step->{limit} if $step->{limit}; need_keys($step, $new); $new };
	if (my $error = $@)
	{
		die $error unless ref $error;
		return $m->failed($i, $mail, $now, "$error->[0]: $error->[1]");
	}
	my $end = @{ $step->{actions} } ? $step->{actions}[-1][0] : '';
	take($i, $mail);
	delete $mail->{timer};
	if ($end eq 'postpone') { push @{ $i->{aside} }, $mail; return clear_failures($i); }
	$state = $i->{state} if $end eq 'reject';
	my $old = $i->{state};
	@$i{qw(state clock begun)} = ($state, $clock, 1);
	my ($reply) = map { $_->[1] } grep { $_->[0] eq 'reply' } @{ $step->{actions} };
	log_event($i, $mail, $mail->{at}, $reply);
	if (text($old) ne text($state))
	{
		my $changed = sub { return text([ map { exists $_->{ $_[0] } ? [ $_->{ $_[0] } ] : [] } $old ]) ne text([ map { exists $_->{ $_[0] } ? [ $_->{ $_[0] } ] : [] } $state ]) };
		@{ $i->{mail} } = grep { !defined $_->{state_key} || !$_->{timer} || !$changed->($_->{state_key}) } @{ $i->{mail} };
		push @{ $i->{mail} }, splice @{ $i->{aside} };
	}
	clear_failures($i);
	$m->carry_out($i, $mail, @$_) for @{ $step->{actions} };
	$m->close($i, 'cancelled', undef, $mail->{payload}{reason})
	  if $mail->{name} eq 'cancel' && !is_closed($i) && !grep { $_->[0] =~ /^(defer_cancel|reject)$/ } @{ $step->{actions} };
	return;
}

# A timer until a key of the state changes needs that key, before the step or after it.
sub need_keys
{
	my ($step, $state) = @_;
	my @actions = @{ $step->{actions} };
	return if !@actions || $actions[-1][0] =~ /^(reject|postpone)$/;
	for (grep { $_->[0] eq 'set_timer' && defined $_->[4] } @actions)
	{
		die [ '22023', "timer \"$_->[1]\" is to last until \"$_->[4]\" changes, and the state has no such key" ]
		  unless exists $state->{ $_->[4] } || exists $step->{i}{state}{ $_->[4] };
	}
	return;
}

sub failed
{
	my ($m, $i, $mail, $now, $reason) = @_;
	my $policy = $i->{workflow}{on_failure};
	@$i{qw(error failing)} = ($reason, $mail);
	if (++$i->{attempts} < $i->{workflow}{max_attempts})
	{
		$i->{retry_at} = $now + $i->{workflow}{retry_delay} * 2**($i->{attempts} - 1);
		return;
	}
	log_engine($i, { pause => '$pause', fail => '$fail', dead_letter => '$skip' }->{$policy}, { by => 'engine', reason => $reason }, $policy eq 'pause' ? AT_ONCE : $mail->{at});
	if ($policy eq 'pause') { @$i{qw(status retry_at)} = ('paused', AT_ONCE); }
	elsif ($policy eq 'fail') { $m->close($i, 'failed', undef, $reason); }
	else { take($i, $mail); $m->dead($i->{id}, $mail, $reason); clear_failures($i); }
	return;
}

# The handler, as in programs.sql.
sub program
{
	my ($step) = @_;
	my ($state, $mail) = ({ %{ $step->{i}{state} } }, $step->{mail});
	$state->{n} = ($state->{n} // 0) + 1 unless exists $mail->{payload}{quiet};
	$state = operate($step, $state, $mail->{payload}{do} // []);
	return operate($step, $state, $state->{"on $mail->{name}"} // []);
}

sub operate
{
	my ($step, $state, $ops) = @_;
	my %time = (now => $step->{now});
	my $at = sub { my ($v) = @_; return !defined $v ? undef : $v =~ /^@(.*)/ ? $1 : $step->{now} + $v; };
	my %name = (self => $step->{i}{id}, parent => $step->{i}{parent}, sender => $step->{mail}{sender});
	for (@$ops)
	{
		my ($verb, @a) = @$_;
		my $id = !@a || ref $a[0] || !exists $name{ $a[0] // '' } ? $a[0] : $name{ $a[0] };
		if    ($verb eq 'set')   { $state->{ $a[0] } = $a[1]; }
		elsif ($verb eq 'unset') { delete $state->{ $a[0] }; }
		elsif ($verb eq 'on')    { $state->{"on $a[0]"} = $a[1]; }
		elsif ($verb eq 'send')  { act($step, 'send', $id, @a[ 1, 2 ], $at->($a[3]), @a[ 4, 5 ]) if defined $id; }
		elsif ($verb eq 'tell')  { act($step, 'send', $id, 'm', { %{ $a[1] }, c => ++$state->{told} }); }
		elsif ($verb eq 'start') { act($step, 'start', $id, @a[ 1, 2 ], $at->($a[3]), @a[ 4, 5 ]); }
		elsif ($verb eq 'timer') { $state->{ $a[3] } //= 0 if defined $a[3]; act($step, 'set_timer', $a[0], $at->($a[1]), @a[ 2, 3 ]); }
		elsif ($verb eq 'attributes') { act($step, 'set_attributes', @a); }
		elsif ($verb eq 'postpone_unless')
		{
			next if exists $state->{ $a[0] };
			act($step, 'postpone');
			return $state;
		}
		elsif ($verb eq 'raise') { die [ 'P0001', 'told to' ]; }
		elsif ($verb eq 'gate')  { }
		elsif ($verb eq 'try')
		{
			my @saved = @{ $step->{actions} };
			my $result = eval { operate($step, {%$state}, $a[0]) };
			die $@ if $@ && !ref $@;
			# it may be caught, and the step fails all the same
			$step->{limit} = $@ if $@ && $@->[0] eq '54000';
			if ($@) { @{ $step->{actions} } = @saved; $state->{caught} = $@->[0]; }
			else    { $state = $result; }
		}
		else { act($step, $verb, $verb =~ /^(monitor|demonitor|cancel|terminate)$/ ? ($id, @a[ 1 .. $#a ]) : @a); }
	}
	return $state;
}

sub act
{
	my ($step, $verb, @a) = @_;
	my $last = @{ $step->{actions} } ? $step->{actions}[-1][0] : '';
	die [ '55000', "$verb() was called after $last() in the same step" ] if $last =~ /^(complete|fail|reject|postpone)$/;
	die [ '54000', "a step may ask for $step->{max} actions at most" ] if @{ $step->{actions} } >= $step->{max};
	die [ '55000', 'the event start cannot be postponed' ] if $verb eq 'postpone' && $step->{mail}{name} eq 'start';
	die [ '55000', "defer_cancel() was called for the event \"$step->{mail}{name}\"" ] if $verb eq 'defer_cancel' && $step->{mail}{name} ne 'cancel';
	die [ '55000', 'reply() was called twice in the same step' ] if $verb eq 'reply' && grep { $_->[0] eq 'reply' } @{ $step->{actions} };
	@{ $step->{actions} } = () if $verb =~ /^(reject|postpone)$/;
	push @{ $step->{actions} }, [ $verb, @a ];
	return;
}

#
# What a step asks for
#
sub letter
{
	my ($m, $from, $to, $name, $payload, %option) = @_;
	push @{ $m->{letters} }, { from => $from, to => $to, option => \%option, mail => {
		name => $name, payload => $payload, at => clock($from), origin => 1, number => ++$m->{number}, sender => $from->{id}, %{ $option{mail} // {} } } };
	return;
}

sub reason { my ($from, $reason) = @_; return { by => $from->{id}, defined $reason ? (reason => $reason) : () }; }

sub carry_out
{
	my ($m, $i, $mail, $verb, @a) = @_;
	if ($verb eq 'send') { $m->letter($i, @a[ 0, 1, 2 ], stamped => defined $a[3], or_start => $a[5], mail => { defined $a[3] ? (at => $a[3]) : (), key => $a[4] }); }
	elsif ($verb eq 'start')
	{
		my $birth = { workflow => $a[1], ignore => $a[5] eq 'ignore' };
		$i->{links}{"$a[4] $a[0]"} = $birth if $a[4] ne 'leave' && !$i->{links}{"$a[4] $a[0]"};
		$m->letter($i, $a[0], 'start', $a[2], birth => $birth, mail => { defined $a[3] ? (at => $a[3]) : () });
	}
	elsif ($verb =~ /timer/)
	{
		@{ $i->{mail} } = grep { ($_->{timer} // '') ne $a[0] } @{ $i->{mail} };
		push @{ $i->{mail} }, { name => $a[0], timer => $a[0], at => $a[1], payload => $a[2], state_key => $a[3], sender => $i->{id}, origin => 1, number => ++$m->{number} } if $verb eq 'set_timer';
	}
	elsif ($verb eq 'set_attributes') { $i->{attributes} = merged($i->{attributes}, $a[0]); }
	elsif ($verb eq 'reply') { $m->letter($i, $mail->{sender}, 'reply', { id => $i->{id}, event => $mail->{name}, key => $mail->{key}, reply => $a[0] }, silent => 1) if defined $mail->{sender} && $mail->{name} !~ /^(dead_letter|child\..*|monitor\..*)$/; }
	elsif ($verb =~ /monitor/) { $m->letter($i, $a[0], "\$$verb", reason($i), mail => { at => AT_ONCE }); }
	elsif ($verb eq 'cancel') { $m->cancel($i, @a); }
	elsif ($verb eq 'terminate') { $m->letter($i, $a[0], '$terminate', reason($i, $a[1]), mail => { at => AT_ONCE }); }
	elsif ($verb eq 'defer_cancel') { $m->defer_cancel($i, @a); }
	elsif ($verb eq 'complete') { $m->close($i, $i->{cancelling} ? 'cancelled' : 'completed', $a[0]); }
	elsif ($verb eq 'fail') { $m->close($i, 'failed', undef, $a[0]); }
	elsif ($verb eq 'reject') { $m->dead($i->{id}, $mail, $a[0]); }
	return;
}

sub merged { my ($old, $new) = @_; my %all = (%$old, %$new); return { map { $_ => $all{$_} } grep { defined $all{$_} } keys %all }; }

sub cancel
{
	my ($m, $i, $id, $reason, $deadline) = @_;
	$m->letter($i, $id, 'cancel', reason($i, $reason));
	$m->letter($i, $id, '$terminate', reason($i, 'the deadline of a cancel has passed'), silent => 1, mail => { at => clock($i) + $deadline }) if defined $deadline;
	return;
}

# Its deadline takes the place of those of the cancels.
sub defer_cancel
{
	my ($m, $i, $deadline) = @_;
	$i->{cancelling} = 1;
	return if !defined $deadline;
	@{ $i->{mail} } = grep { $_->{name} ne '$terminate' || $_->{at} == AT_ONCE } @{ $i->{mail} };
	push @{ $i->{mail} }, { name => '$terminate', at => clock($i) + $deadline, origin => 1, number => ++$m->{number}, sender => $i->{id},
		payload => reason($i, 'the deadline of a cancel has passed') };
	return;
}

# Tells those who are to know, does to the children what was chosen, and gives up the mail that is left.
sub close
{
	my ($m, $i, $status, $result, $error) = @_;
	@$i{qw(status result error retry_at)} = ($status, $result, $error, AT_ONCE);
	$m->tell_end($i, 'child', $i->{parent}) if defined $i->{parent};
	for (sort keys %{ $i->{links} })
	{
		my ($kind, $peer) = split / /;
		my $why = reason($i, 'its parent has closed');
		if    ($kind eq 'monitor') { $m->tell_end($i, 'monitor', $peer); }
		elsif ($kind eq 'cancel')  { $m->letter($i, $peer, 'cancel', $why, link => $i->{links}{$_}); }
		else                       { $m->letter($i, $peer, '$terminate', $why, link => $i->{links}{$_}, mail => { at => AT_ONCE }); }
	}
	$i->{links} = {};
	$m->unhandled($i, $_) for in_order(splice(@{ $i->{mail} }), splice(@{ $i->{aside} }));
	return;
}

sub tell_end
{
	my ($m, $i, $what, $to) = @_;
	$m->letter($i, $to, "$what.$i->{status}", { id => $i->{id}, defined $i->{result} ? (result => $i->{result}) : (), defined $i->{error} ? (error => $i->{error}) : () }, silent => 1);
	return;
}

sub control
{
	my ($m, $i, $mail) = @_;
	my ($name, $payload) = @$mail{qw(name payload)};
	if ($name =~ /monitor/)
	{
		if   ($name eq '$monitor') { $i->{links}{"monitor $mail->{sender}"} = $mail; }
		else                       { delete $i->{links}{"monitor $mail->{sender}"}; }
		return;
	}
	return if $name eq '$pause' && $i->{status} eq 'paused' || $name eq '$resume' && $i->{status} eq 'running' && !$i->{attempts}
	  || $name eq '$retry' && ($i->{status} eq 'paused' || !$i->{attempts}) || $name eq '$skip' && !$i->{attempts}
	  || $name eq '$reschedule' && !grep { $_ == $mail->{moves} } @{ $i->{mail} };
	log_engine($i, $name, $payload, $mail->{at});
	if ($name eq '$terminate') { $m->close($i, 'terminated', undef, $payload->{reason}); }
	elsif ($name eq '$retry') { $i->{retry_at} = AT_ONCE; }
	elsif ($name eq '$reschedule') { $mail->{moves}{at} = $mail->{to}; }
	elsif ($name eq '$attributes') { $i->{attributes} = merged($i->{attributes}, $payload->{attributes}); }
	else
	{
		if ($name eq '$skip') { take($i, $i->{failing}); $m->dead($i->{id}, $i->{failing}, 'skipped: ' . ($payload->{reason} // 'no reason given')); }
		clear_failures($i);
		$i->{status} = $name eq '$pause' ? 'paused' : 'running';
	}
	return;
}

#
# Letters
#
sub deliver
{
	my ($m, $letter) = @_;
	my ($from, $mail, $option) = @$letter{qw(from mail option)};
	my $i = $m->{instances}{ $letter->{to} };
	if (my $birth = $option->{birth})
	{
		return $m->refuse_birth($i, $letter, $birth) if $i;
		$m->create($letter->{to}, $birth->{workflow}, $mail->{at}, $mail->{payload},
			parent => $from->{id}, sender => $from->{id}, live_from => $from->{live_from});
		return;
	}
	$i //= $m->create($letter->{to}, $option->{or_start}, $mail->{at}, {}, sender => $from->{id}, live_from => $from->{live_from}) if $option->{or_start};
	if (!$i)
	{
		return if $mail->{name} eq '$demonitor';
		if ($mail->{name} eq '$monitor') { $m->letter($from, $from->{id}, 'monitor.unknown', { id => $letter->{to} }, silent => 1); }
		elsif (!$option->{silent}) { $m->bury($letter->{to}, $mail, "instance \"$letter->{to}\" does not exist"); }
		return;
	}
	if (defined $mail->{key})
	{
		my $event = text([ @$mail{qw(name payload)}, $option->{stamped} ? $mail->{at} : undef ]);
		my $first = $i->{keys}{ $mail->{key} };
		$i->{keys}{ $mail->{key} } //= $event;
		$m->bury($i->{id}, $mail, "idempotency key \"$mail->{key}\" was used for another event") if defined $first && $first ne $event;
		return if defined $first;
	}
	if   (is_closed($i)) { $m->unhandled($i, $mail); }
	else                 { push @{ $i->{mail} }, $mail; }
	return;
}

# The parent is told, or there is a dead letter where it has closed.  What its end would have done to the child it does not
# do to another of that id.
sub refuse_birth
{
	my ($m, $i, $letter, $birth) = @_;
	my ($parent, $id) = @$letter{qw(from to)};
	my $why = "instance \"$id\" already exists";
	my $links = $parent->{links};
	if   ($birth->{ignore} && $i->{workflow} == $m->{workflows}{ $birth->{workflow} }) { }
	elsif (is_closed($parent)) { $m->bury($id, $letter->{mail}, $why); }
	else { $m->letter($parent, $parent->{id}, 'child.failed', { id => $id, error => $why, started => JSON::PP::false }, silent => 1, mail => { sender => $id }); }
	delete @$links{ grep { $links->{$_} == $birth } keys %$links };
	@{ $m->{letters} } = grep { ($_->{option}{link} // 0) != $birth } @{ $m->{letters} };
	return;
}

sub unhandled
{
	my ($m, $i, $mail) = @_;
	if ($mail->{name} eq '$monitor') { $m->tell_end($i, 'monitor', $mail->{sender}); }
	elsif (!$mail->{timer} && $mail->{name} !~ /^(\$.*|cancel|reply|dead_letter|child\..*|monitor\..*)$/) { $m->bury($i->{id}, $mail, "the instance is $i->{status}"); }
	return;
}

# A dead letter, or where its sender wants that an event for the sender.
sub bury
{
	my ($m, $id, $mail, $reason) = @_;
	my $sender = defined $mail->{sender} ? $m->{instances}{ $mail->{sender} } : undef;
	$mail = { %$mail, at => clock($sender) } if $sender && $mail->{at} == AT_ONCE;
	return $m->dead($id, $mail, $reason) unless $sender && $sender->{workflow}{dead_letter_events};
	$m->letter($sender, $sender->{id}, 'dead_letter', { id => $id, event => $mail->{name}, payload => $mail->{payload}, reason => $reason }, silent => 1, mail => { at => $mail->{at}, sender => $id });
	return;
}

sub dead { my ($m, $id, $mail, $reason) = @_; push @{ $m->{dead} }, [ $id, $mail->{at} == AT_ONCE ? undef : $mail->{at}, @$mail{qw(name payload sender key)}, $reason ]; return; }

# What program_instances() and program_dead_letters() say.
sub instances
{
	my ($m) = @_;
	return map {
		my $i = $_;
		+{  (map { $_ => $i->{$_} } qw(id status result error attempts attributes parent started live_from state log)),
			waiting => [ map { [ $_->{at} == AT_ONCE ? undef : $_->{at}, @$_{qw(origin name payload sender key timer)} ] } in_order(@{ $i->{mail} }, @{ $i->{aside} }) ] }
	} values %{ $m->{instances} };
}

#
# A random program: phases, each with what is given from outside before the handling of what is due at its time.
#
package Program;

use strict;
use warnings;

use constant HOUR => 3_600_000_000;

sub draw { return int(rand($_[0])); }
sub pick { return $_[ draw(scalar @_) ]; }
sub chance { return rand() < $_[0]; }

# Options: ids, events, timers => [names], workflows => [names].
sub new { my ($class, %option) = @_; return bless {%option}, $class; }

sub payload
{
	my ($p, $depth, %option) = @_;
	my @ops = $depth > 0 && chance(0.85) ? map { $p->operation($depth - 1) } 0 .. draw(3) : ();
	push @ops, $p->ending(%option) if $depth > 0 && chance($option{start} ? 0.05 : 0.12);
	return { @ops ? (do => \@ops) : (), chance(0.2) ? (quiet => 1) : () };
}

sub ending
{
	my ($p, %option) = @_;
	return pick([ 'complete', draw(9) ], [ 'complete', draw(9) ], ['complete'], [ 'fail', 'no use' ], [ 'reject', 'unwanted' ], ['raise'],
		['raise'], $option{start} ? [ 'set', 'k1', 0 ] : ([ 'postpone_unless', $p->key ]) x 3);
}

sub id  { my ($p) = @_; return pick(@{ $p->{ids} }, 'self'); }
sub key { return pick('k1', 'k2'); }

# Absolute times are few, so that they tie.
sub time
{
	return pick(0, 1, HOUR / 2 + draw(4) * HOUR / 2, draw(6 * HOUR), draw(6 * HOUR), -draw(HOUR), -HOUR, '@' . (6 + draw(5)) * 2 * HOUR);
}

sub operation
{
	my ($p, $depth) = @_;
	my $payload = sub { return $p->payload($depth, @_) };
	my %draw = (
		send => sub { return [ 'send', pick($p->id, $p->id, $p->id, 'parent', 'sender'), pick(@{ $p->{events} }), $payload->(),
				chance(0.7) ? undef : $p->time, chance(0.9) ? undef : pick('key1', 'key2'), chance(0.9) ? undef : pick(@{ $p->{workflows} }) ] },
		timer => sub { return [ 'timer', pick(@{ $p->{timers} }), $p->time, $payload->(), chance(0.7) ? undef : $p->key ] },
		cancel_timer => sub { return [ 'cancel_timer', pick(@{ $p->{timers} }) ] },
		set => sub { return [ 'set', $p->key, draw(3) ] },
		unset => sub { return [ 'unset', $p->key ] },
		on => sub { return $p->reaction },
		start => sub { return [ 'start', $p->id, pick(@{ $p->{workflows} }), $payload->(start => 1), chance(0.8) ? undef : $p->time,
				pick(qw(leave cancel terminate)), pick(qw(error error ignore)) ] },
		watch => sub { return [ pick(qw(monitor monitor monitor demonitor)), $p->id ] },
		stop => sub { return chance(0.5) ? [ 'terminate', $p->id, 'enough' ] : [ 'cancel', $p->id, pick(undef, 'enough'), pick(undef, HOUR) ] },
		reply => sub { return [ 'reply', draw(9) ] },
		attributes => sub { return [ 'attributes', { pick('a', 'b') => pick(1, 2, undef) } ] },
		try => sub { return [ 'try', [ [ 'set', $p->key, 3 ], $p->operation($depth), pick($p->ending, [ 'set', 'k2', 4 ]), pick(['raise'], ['raise'], [ 'cancel_timer', 't1' ]) ] ] },
	);
	my $kind = pick(qw(send send send send send timer timer timer timer cancel_timer set set unset on on start start watch watch stop
		  reply attributes), $depth > 0 ? 'try' : 'set');
	my $op = $draw{$kind}->();
	# one answer a step, and no postponing of start from within a try
	return $kind eq 'reply' && chance(0.5) ? [ 'set', 'k1', 5 ] : $op;
}

# What is done whenever an event comes. It sends nothing that could lead to itself.
sub reaction
{
	my ($p) = @_;
	return [ 'on', 'cancel', pick([ ['defer_cancel'] ], [ [ 'defer_cancel', pick(1, HOUR / 2, 3 * HOUR) ] ], [ [ 'reject', 'not now' ] ], [ [ 'complete', 1 ] ], [ [ 'set', 'k1', 2 ] ],
			map { [ $_, [ 'timer', 'bye', HOUR, { do => [ [ 'complete', 2 ] ] } ] ] } ['defer_cancel'], [ 'defer_cancel', 2 * HOUR ]) ] if chance(0.3);
	my $event = pick(@{ $p->{events} }, @{ $p->{timers} }, qw(reply dead_letter child.completed child.failed child.terminated
		  monitor.completed monitor.failed monitor.unknown));
	return [ 'on', $event, [ pick([ 'set', $p->key, draw(3) ], [ 'unset', $p->key ], [ 'timer', 'late', 3 * HOUR, {} ], [ 'cancel_timer', 't1' ],
				$event eq 'dead_letter' ? [ 'set', 'k2', 1 ] : [ 'send', $p->id, 'leaf', {} ], [ 'complete', $event ], [ 'postpone_unless', $p->key ]) ] ];
}

1;
